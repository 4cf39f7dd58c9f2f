//! What Linux knows about processes.

use std::fs;
use std::time::Duration;

/// Clock ticks a second in `/proc/*/stat`: fixed by the kernel's interface on every common architecture.
const TICKS: u64 = 100;

/// Processor time of this process, all threads; `None` where there is no `/proc`.
pub fn process_cpu() -> Option<Duration> {
    let stat = Stat::of("self")?;
    Some(ticks(stat.own))
}

/// Processor time that this machine spent on everything but waiting, all cores; `None` where there is no `/proc`.
///
/// Source: proc_stat(5). The fields are user, nice, system, idle, iowait, irq, softirq; what a host took away comes after them.
pub fn machine_cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let spent: Vec<u64> = fields.take(7).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _, _, irq, softirq] = spent[..] else { return None };
    Some(ticks(user + nice + system + irq + softirq))
}

/// The most memory that a process held so far, in bytes; `None` where there is no `/proc`.
pub fn resident_peak_bytes(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Processor time of a PostgreSQL server with all its processes, the ended ones included, from the process id of one
/// backend; `None` when the server is not on this machine.
pub(super) fn server_cpu(backend: i32) -> Option<Duration> {
    let server = Stat::of(&backend.to_string()).filter(|stat| stat.name == "postgres")?.parent;
    let main = Stat::of(&server.to_string()).filter(|stat| stat.name == "postgres")?;
    let children = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let pid = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
        Stat::of(pid).filter(|stat| stat.parent == server)
    });
    Some(ticks(main.own + main.ended_children + children.map(|stat| stat.own).sum::<u64>()))
}

struct Stat {
    name: String,
    parent: u32,
    own: u64,
    ended_children: u64,
}

impl Stat {
    /// Source: proc_pid_stat(5).
    fn of(process: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (before, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            name: before.split_once('(')?.1.to_owned(),
            parent: u32::try_from(number(1)?).ok()?,
            own: number(11)? + number(12)?,
            ended_children: number(13)? + number(14)?,
        })
    }
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS)
}
