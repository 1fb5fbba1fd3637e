//! The `upright.toml` that a new workspace starts with.

use upright_manifests::name::{Arch, OsName};

/// The text of a new `upright.toml`, commented, with every default spelt out.
pub fn template(os: &OsName, arch: Arch) -> String {
    TEMPLATE.replace("@os@", os.as_str()).replace("@arch@", arch.as_str())
}

const TEMPLATE: &str = r#"# What upright-build makes and who signs it. Paths are relative to this file.

os = "@os@"
arch = "@arch@"

# Where releases are offered; the first is the default.
channels = ["stable"]

# How many former releases of a channel a new one gets deltas from, and how many releases stay published
# beside those that a channel points at or comes from.
edges = 3
keep = 10

# How many bytes all deltas to one release may have together; those from the newest releases come first.
# delta-budget = "1GiB"

# How hard releases are compressed, by zstd level: from 1, which takes a tenth of the time, to 22.
[compression]
payload = 19
delta = 19

# The smallest partitions that hosts of this OS have. A release that does not fit is refused at publish;
# `upright-build disk` makes exactly these.
[disk]
slot = "4GiB"
verity = "40MiB"
esp = "512MiB"
var = "1GiB"

# Added to the kernel's command line.
[kernel]
cmdline = ""

# Sign UKIs for Secure Boot.
# [secure-boot]
# key = "keys/db.key"
# certificate = "keys/db.crt"

# Signs the trees' commits in ostree/ (ostree.sign.ed25519), for those who take trees from there.
[tree]
keys = ["keys/tree.pem"]

# Who signs, by TUF role: key files, or commands that get the bytes on standard input and write the
# signature, for keys in a token or a service:
#   [[roles.targets.signers]]
#   public = "64 hexadecimal digits"
#   command = ["sign-with-token", "slot-1"]
#   timeout = 60
# Root and targets belong offline: move their files away from this machine, leave the .pub files, and name those
# here. What changes here takes effect with `upright-build rotate`.
[roles.root]
keys = ["keys/root.pem"]
threshold = 1
days = 365

[roles.targets]
keys = ["keys/targets.pem"]
threshold = 1
days = 90

[roles.snapshot]
keys = ["keys/snapshot.pem"]
threshold = 1
days = 7

[roles.timestamp]
keys = ["keys/timestamp.pem"]
threshold = 1
days = 7

# A team with keys of its own: it publishes to these channels, and to no others.
# [teams.nightly]
# channels = ["nightly"]
# keys = ["keys/nightly.pem"]
"#;
