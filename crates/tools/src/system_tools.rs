//! `system_tools.*`: the machine that the tool node runs on, and the time there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use kamil_protocol::{
    task::{Source, Trust},
    tool::SideEffect,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sysinfo::{Disks, ProcessesToUpdate, System};

use crate::{
    failure::Failure,
    tool::{About, Product, Tool},
};

const MAX_PROCESSES: u32 = 50;
/// Longest name that is shown of a process.
const MAX_NAME_CHARS: usize = 64;
/// Processor use is a difference between two moments; this is how far they are apart.
const SAMPLE: Duration = Duration::from_millis(250);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

pub(crate) fn tools() -> Result<Vec<Tool>, Failure> {
    let system = System::new()
        .map_err(|error| Failure::Internal(format!("the machine cannot be examined: {error}")))?;
    let system = Arc::new(Mutex::new(system));
    Ok(vec![status(&system)?, processes(&system)?, disk()?, time()?])
}

fn about(
    name: &'static str,
    description: &'static str,
    examples: Vec<(&'static str, serde_json::Value)>,
) -> About {
    About { name, description, side_effect: SideEffect::Read, idempotent: true, timeout_ms: 5_000, examples }
}

#[derive(Serialize, JsonSchema)]
struct StatusResult {
    host: String,
    os: String,
    uptime_seconds: u64,
    logical_cores: u64,
    /// Share of all cores in use, 0–1.
    cpu: f64,
    load_1m: f64,
    ram_total_bytes: u64,
    ram_available_bytes: u64,
    summary: String,
}

fn status(system: &Arc<Mutex<System>>) -> Result<Tool, Failure> {
    let system = Arc::clone(system);
    let about = about(
        "system_tools.status",
        "Tell how this computer is doing: processor load, memory, uptime, system.",
        vec![
            ("How much memory is free on this machine?", json!({})),
            ("How busy is the computer right now?", json!({})),
        ],
    );
    Tool::new(about, move |_: NoArguments, _| {
        let mut system = system.lock().unwrap_or_else(PoisonError::into_inner);
        system.refresh_memory();
        system.refresh_cpu_usage();
        std::thread::sleep(SAMPLE);
        system.refresh_cpu_usage();
        let (total, available) = (system.total_memory(), system.available_memory());
        let cpu = f64::from((system.global_cpu_usage() * 10.0).round() / 1000.0);
        let load_1m = System::load_average().map(|load| load.one).unwrap_or_default();
        let uptime = System::uptime().unwrap_or_default();
        Ok(Product::computed(StatusResult {
            host: System::host_name().unwrap_or_default(),
            os: System::long_os_version().unwrap_or_default(),
            uptime_seconds: uptime,
            logical_cores: system.cpus().len() as u64,
            cpu,
            load_1m,
            ram_total_bytes: total,
            ram_available_bytes: available,
            summary: format!(
                "processor {:.0}% busy, {:.1} of {:.1} GiB memory free, up for {:.1} hours",
                cpu * 100.0,
                gib(available),
                gib(total),
                uptime as f64 / 3600.0
            ),
        }))
    })
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ProcessOrder {
    #[default]
    Memory,
    Cpu,
}

const fn ten() -> u32 {
    10
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProcessesArguments {
    #[serde(default)]
    #[schemars(extend("default" = "memory"))]
    sort: ProcessOrder,
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = MAX_PROCESSES))]
    limit: u32,
}

#[derive(Serialize, JsonSchema)]
struct ProcessEntry {
    pid: u32,
    /// Its name only: command lines may hold secrets.
    name: String,
    /// Share of one core, 0 and up.
    cpu: f64,
    memory_bytes: u64,
}

#[derive(Serialize, JsonSchema)]
struct ProcessesResult {
    /// How many run in all.
    total: u64,
    processes: Vec<ProcessEntry>,
}

fn processes(system: &Arc<Mutex<System>>) -> Result<Tool, Failure> {
    let system = Arc::clone(system);
    let about = about(
        "system_tools.processes",
        "List the running processes that use most memory or processor time.",
        vec![
            ("What is using most of my memory?", json!({"sort": "memory", "limit": 5})),
            ("Which processes keep the processor busy?", json!({"sort": "cpu"})),
        ],
    );
    Tool::new(about, move |arguments: ProcessesArguments, _| {
        let mut system = system.lock().unwrap_or_else(PoisonError::into_inner);
        system.refresh_processes(ProcessesToUpdate::All, true);
        std::thread::sleep(SAMPLE);
        system.refresh_processes(ProcessesToUpdate::All, true);
        let mut processes: Vec<ProcessEntry> = system
            .processes()
            .values()
            .filter(|process| process.thread_kind().is_none())
            .map(|process| ProcessEntry {
                pid: process.pid().as_u32(),
                name: process
                    .name()
                    .to_string_lossy()
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(MAX_NAME_CHARS)
                    .collect(),
                cpu: f64::from((process.cpu_usage() * 10.0).round() / 1000.0),
                memory_bytes: process.memory(),
            })
            .collect();
        let total = processes.len() as u64;
        match arguments.sort {
            ProcessOrder::Memory => processes.sort_by_key(|process| std::cmp::Reverse(process.memory_bytes)),
            ProcessOrder::Cpu => processes.sort_by(|a, b| b.cpu.total_cmp(&a.cpu)),
        }
        processes.truncate(arguments.limit as usize);
        // Any user of the machine names processes.
        Ok(Product {
            output: ProcessesResult { total, processes },
            sources: &[Source::Tool],
            trust: Trust::Untrusted,
            enforced: Vec::new(),
        })
    })
}

#[derive(Serialize, JsonSchema)]
struct DiskEntry {
    mount: String,
    total_bytes: u64,
    free_bytes: u64,
    /// Share in use, 0–1.
    used: f64,
}

#[derive(Serialize, JsonSchema)]
struct DiskResult {
    disks: Vec<DiskEntry>,
    summary: String,
}

fn disk() -> Result<Tool, Failure> {
    let about = about(
        "system_tools.disk",
        "Tell how much disk space there is and how much is free.",
        vec![("How much disk space do I have left?", json!({}))],
    );
    Tool::new(about, |_: NoArguments, _| {
        let disks = Disks::new_with_refreshed_list()
            .map_err(|error| Failure::failed(format!("the disks cannot be listed: {error}")))?;
        let mut entries: Vec<DiskEntry> = disks
            .iter()
            .filter(|disk| disk.total_space() > 0)
            .map(|disk| {
                let (total, free) = (disk.total_space(), disk.available_space());
                DiskEntry {
                    mount: disk.mount_point().to_string_lossy().into_owned(),
                    total_bytes: total,
                    free_bytes: free,
                    used: ((total - free.min(total)) as f64 / total as f64 * 1000.0).round() / 1000.0,
                }
            })
            .collect();
        entries.sort_by(|a, b| a.mount.cmp(&b.mount));
        entries.truncate(MAX_PROCESSES as usize);
        let summary = entries
            .iter()
            .max_by_key(|entry| entry.total_bytes)
            .map(|entry| {
                format!(
                    "{}: {:.1} of {:.1} GiB free",
                    entry.mount,
                    gib(entry.free_bytes),
                    gib(entry.total_bytes)
                )
            })
            .unwrap_or_default();
        // Whoever plugs a disk in names where it is mounted.
        Ok(Product {
            output: DiskResult { disks: entries, summary },
            sources: &[Source::Tool],
            trust: Trust::Untrusted,
            enforced: Vec::new(),
        })
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TimeArguments {
    /// Such as Europe/Berlin; empty: the one of this computer.
    #[serde(default)]
    #[schemars(length(max = 64))]
    timezone: String,
}

#[derive(Serialize, JsonSchema)]
struct TimeResult {
    date: String,
    time: String,
    weekday: String,
    timezone: String,
    /// RFC 3339.
    timestamp: String,
}

fn time() -> Result<Tool, Failure> {
    let about = about(
        "system_tools.time",
        "Tell the current date, time and weekday.",
        vec![
            ("What day is it today?", json!({})),
            ("What time is it in Tokyo?", json!({"timezone": "Asia/Tokyo"})),
        ],
    );
    Tool::new(about, |arguments: TimeArguments, _| {
        let timezone = match arguments.timezone.as_str() {
            "" => TimeZone::system(),
            name => TimeZone::get(name)
                .map_err(|_| Failure::argument("timezone", "this machine knows no time zone of that name"))?,
        };
        let now = Timestamp::now().to_zoned(timezone);
        Ok(Product::computed(TimeResult {
            date: now.strftime("%Y-%m-%d").to_string(),
            time: now.strftime("%H:%M:%S").to_string(),
            weekday: now.strftime("%A").to_string(),
            timezone: now.time_zone().iana_name().unwrap_or("UTC").to_owned(),
            timestamp: now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        }))
    })
}
