//! What a process has used, as the kernel tells.

use std::fs;

/// Resident memory of all, in KiB.
pub fn resident_kib(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| resident(*pid)).sum()
}

/// Seconds of CPU of all, user and system. The kernel counts in hundredths.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| cpu(*pid)).sum()
}

fn resident(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
