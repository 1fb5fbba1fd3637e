"""Looks up a target with python-tuf in a repository that lies in a folder.

read_repository.py METADATA_FOLDER TRUSTED_ROOT TARGET -> "LENGTH SHA256" on standard output
"""

import os
import sys
import tempfile

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater


class FolderFetcher(FetcherInterface):
    """Reads file:// addresses; what is missing answers 404."""

    def _fetch(self, url):
        try:
            with open(url.removeprefix("file://"), "rb") as file:
                return [file.read()]
        except FileNotFoundError:
            raise DownloadHTTPError(url, 404) from None


def main():
    folder, root, path = sys.argv[1:]
    with open(root, "rb") as file:
        bootstrap = file.read()
    with tempfile.TemporaryDirectory() as store:
        updater = Updater(
            store,
            "file://" + os.path.abspath(folder) + "/",
            fetcher=FolderFetcher(),
            bootstrap=bootstrap,
        )
        target = updater.get_targetinfo(path)
        if target is None:
            sys.exit(f"{path} not found")
        print(target.length, target.hashes["sha256"])


main()
