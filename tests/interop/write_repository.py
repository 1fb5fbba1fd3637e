"""Writes a repository with python-tuf: two root keys, a rotated timestamp key, a delegated role.

write_repository.py METADATA_FOLDER
"""

import os
import sys
from datetime import datetime, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

EXPIRES = datetime(2040, 1, 1, tzinfo=timezone.utc)


def write(folder, name, body, signers):
    metadata = Metadata(body)
    for signer in signers:
        metadata.sign(signer, append=True)
    metadata.to_file(os.path.join(folder, name), JSONSerializer(compact=False))


def main():
    folder = sys.argv[1]
    signers = {role: [CryptoSigner.generate_ed25519()] for role in ("targets", "snapshot", "timestamp", "team")}
    signers["root"] = [CryptoSigner.generate_ed25519() for _ in range(2)]
    root = Root(expires=EXPIRES)
    for role in ("root", "targets", "snapshot", "timestamp"):
        for signer in signers[role]:
            root.add_key(signer.public_key, role)
    root.roles["root"].threshold = 2
    write(folder, "1.root.json", root, signers["root"])

    root.revoke_key(signers["timestamp"][0].public_key.keyid, "timestamp")
    signers["timestamp"] = [CryptoSigner.generate_ed25519()]
    root.add_key(signers["timestamp"][0].public_key, "timestamp")
    root.version = 2
    write(folder, "2.root.json", root, signers["root"])

    team = Targets(expires=EXPIRES)
    team.targets["team/ä b.txt"] = TargetFile.from_data("team/ä b.txt", b"delegated", ["sha256", "sha512"])
    write(folder, "1.team.json", team, signers["team"])

    targets = Targets(expires=EXPIRES)
    targets.targets["file.txt"] = TargetFile.from_data("file.txt", b"content", ["sha256"])
    public = signers["team"][0].public_key
    role = DelegatedRole("team", [public.keyid], 1, True, ["team/*"])
    targets.delegations = Delegations({public.keyid: public}, {"team": role})
    write(folder, "1.targets.json", targets, signers["targets"])

    snapshot = Snapshot(expires=EXPIRES, meta={"targets.json": MetaFile(1), "team.json": MetaFile(1)})
    write(folder, "1.snapshot.json", snapshot, signers["snapshot"])
    write(folder, "timestamp.json", Timestamp(expires=EXPIRES, snapshot_meta=MetaFile(1)), signers["timestamp"])


main()
