//! The account that PostgreSQL runs as: its server refuses root.

use std::{fs, os::unix::fs::chown, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, anyhow};

use crate::run;

const NAME: &str = "postgres";
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Whose rights a server gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// The account that runs this program.
    Own,
    /// The system's `postgres` account, which root changes to.
    Postgres { user: u32, group: u32 },
}

impl Account {
    /// The account for PostgreSQL on this machine.
    pub(crate) fn for_postgres() -> Result<Self> {
        if !is_root() {
            return Ok(Self::Own);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("/etc/passwd: cannot be read")?;
        let (user, group) = ids(&accounts, NAME)
            .ok_or_else(|| anyhow!("PostgreSQL refuses to run as root and the account `{NAME}` does not exist"))?;
        Ok(Self::Postgres { user, group })
    }

    /// A command that runs with this account's rights, under the same process id.
    pub(crate) fn command(self, program: &Path) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::Postgres { user, group } => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={user}"))
                    .arg(format!("--regid={group}"))
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
        }
    }

    /// Makes the account the owner of a file or folder.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Postgres { user, group } => chown(path, Some(user), Some(group))
                .with_context(|| format!("{}: cannot be given to {NAME}", path.display())),
        }
    }

    /// Whether the account may enter a folder, which takes a right on each folder above it too.
    pub(crate) fn can_enter(self, folder: &Path) -> bool {
        let mut command = self.command(Path::new("sh"));
        command.args(["-c", "cd \"$1\"", "sh"]).arg(folder).current_dir("/");
        run::works(&mut command, CHECK_LIMIT)
    }
}

/// Whether this program runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn ids(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = accounts
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    let user = fields.nth(1)?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some((user, group))
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn ids_are_those_of_the_named_account() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres:x:107:115:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids(accounts, "postgres"), Some((107, 115)));
        assert_eq!(ids(accounts, "nobody"), None);
    }
}
