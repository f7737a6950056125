//! What the machine is made of, and how busy it is.

mod accelerators;

use std::{
    fmt, fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kamil_protocol::node::{Accelerator, Hardware, Load};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::NodeError;
use accelerators::Drivers;

/// The load is measured at most this often; in between, the last figures are given.
const FRESH_FOR: Duration = Duration::from_millis(200);

/// Looks at the machine. What cannot be told stays empty. Blocks for some milliseconds.
#[must_use]
pub fn probe() -> Hardware {
    let kinds = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds).ok();
    let (ram_total_bytes, ram_available_bytes) = system.as_ref().map_or((0, 0), memory);
    let cpus = system.as_ref().map_or(&[][..], System::cpus);
    let logical_cores = count(std::thread::available_parallelism().map_or(cpus.len(), usize::from));
    let physical_cores = System::physical_core_count().map_or(logical_cores, count);
    Hardware {
        cpu_model: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
        physical_cores: physical_cores.min(logical_cores),
        logical_cores,
        instruction_sets: instruction_sets().iter().map(|&set| set.to_owned()).collect(),
        ram_total_bytes,
        ram_available_bytes,
        accelerators: Drivers::open().accelerators(),
        power: power_source(Path::new("/sys/class/power_supply")),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        from_profile: false,
    }
}

/// Reads what hardware to pretend to have: [`Hardware`] in JSON or, if the file's name ends in `.toml`, in TOML.
///
/// # Errors
/// If the file cannot be read or does not describe hardware.
pub fn from_profile(path: &Path) -> Result<Hardware, NodeError> {
    let text = fs::read_to_string(path).map_err(NodeError::file("read", path))?;
    let toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let parsed: Result<Hardware, String> = if toml {
        toml::from_str(&text).map_err(|error| error.to_string().trim().to_owned())
    } else {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    match parsed {
        Ok(hardware) => Ok(Hardware { from_profile: true, ..hardware }),
        Err(error) => Err(NodeError::Content {
            path: path.to_owned(),
            reason: format!("it is not a hardware profile: {error}"),
        }),
    }
}

/// Measures how busy the machine is. With a hardware profile the memory and the accelerators are those of the profile.
pub struct LoadProbe {
    profile: Option<Hardware>,
    state: Mutex<State>,
    drivers: Option<Drivers>,
}

struct State {
    system: Option<System>,
    load: Load,
    measured: Option<Instant>,
}

impl fmt::Debug for LoadProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadProbe").field("profile", &self.profile.is_some()).finish_non_exhaustive()
    }
}

impl LoadProbe {
    /// A probe for this hardware.
    #[must_use]
    pub fn new(hardware: &Hardware) -> Self {
        let profile = hardware.from_profile.then(|| hardware.clone());
        let drivers = (profile.is_none() && !hardware.accelerators.is_empty()).then(Drivers::open);
        let state = State { system: System::new().ok(), load: Load::default(), measured: None };
        Self { profile, state: Mutex::new(state), drivers }
    }

    /// The load now; `running` and `queued` are left at 0. The first figure of `cpu` is 0: a share needs two moments.
    pub fn now(&self) -> Load {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.measured.is_some_and(|measured| measured.elapsed() < FRESH_FOR) {
            return state.load.clone();
        }
        state.measured = Some(Instant::now());
        let Some(system) = state.system.as_mut() else { return Load::default() };
        system.refresh_cpu_usage();
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let cpu = (system.global_cpu_usage() / 100.0).clamp(0.0, 1.0);
        let available = memory(system).1;
        let ram_available_bytes =
            self.profile.as_ref().map_or(available, |profile| profile.ram_available_bytes);
        state.load = Load { cpu, ram_available_bytes, running: 0, queued: 0 };
        state.load.clone()
    }

    /// The accelerators now.
    pub fn accelerators(&self) -> Vec<Accelerator> {
        match (&self.profile, &self.drivers) {
            (Some(profile), _) => profile.accelerators.clone(),
            (None, Some(drivers)) => drivers.accelerators(),
            (None, None) => Vec::new(),
        }
    }
}

/// Total and available memory, within the limits of the control group that the process runs in.
fn memory(system: &System) -> (u64, u64) {
    let (total, available) = (system.total_memory(), system.available_memory());
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 && limits.total_memory < total => {
            (limits.total_memory, available.min(limits.free_memory))
        }
        _ => (total, available),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let found = detected!(
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512vnni",
        "avx512bf16",
        "avxvnni"
    );
    found.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let found = detected!("neon", "dotprod", "fp16", "i8mm", "bf16", "sve", "sve2");
    found.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

/// Linux's `power_supply` class: mains that are online mean `ac`; a battery of the machine alone means `battery`.
fn power_source(folder: &Path) -> Option<String> {
    let mut battery = false;
    for supply in fs::read_dir(folder).ok()?.flatten() {
        let read =
            |name: &str| fs::read_to_string(supply.path().join(name)).unwrap_or_default().trim().to_owned();
        match read("type").as_str() {
            "Mains" | "USB" if read("online") == "1" => return Some("ac".to_owned()),
            // Mice and headsets have batteries as well; theirs have the scope `Device`.
            "Battery" if read("scope") != "Device" => battery = true,
            _ => {}
        }
    }
    battery.then(|| "battery".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_finds_this_machine() {
        let hardware = probe();
        assert!(hardware.logical_cores >= 1 && hardware.physical_cores >= 1);
        assert!(hardware.physical_cores <= hardware.logical_cores);
        assert!(hardware.ram_total_bytes > 64 << 20);
        assert!(hardware.ram_available_bytes <= hardware.ram_total_bytes);
        assert!(hardware.platform.starts_with(std::env::consts::OS));
        let load = LoadProbe::new(&hardware).now();
        assert!((0.0..=1.0).contains(&load.cpu) && load.ram_available_bytes > 0);
    }

    #[test]
    fn a_profile_replaces_memory_and_accelerators() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("desk.json");
        let text = r#"{"cpu_model":"X","physical_cores":8,"logical_cores":16,"ram_total_bytes":64,"ram_available_bytes":32,
            "accelerators":[{"kind":"cuda","name":"G","vram_total_bytes":24,"vram_available_bytes":20}]}"#;
        fs::write(&json, text).unwrap();
        let hardware = from_profile(&json).unwrap();
        assert!(hardware.from_profile);
        let probe = LoadProbe::new(&hardware);
        assert_eq!(probe.now().ram_available_bytes, 32);
        assert_eq!(probe.accelerators(), hardware.accelerators);

        let toml_file = folder.path().join("desk.toml");
        let text = "cpu_model='X'\nphysical_cores=8\nlogical_cores=16\nram_total_bytes=64\nram_available_bytes=32\n\
            [[accelerators]]\nkind='cuda'\nname='G'\nvram_total_bytes=24\nvram_available_bytes=20\n";
        fs::write(&toml_file, text).unwrap();
        assert_eq!(from_profile(&toml_file).unwrap(), hardware);

        fs::write(&json, r#"{"cpu_modle":"X"}"#).unwrap();
        let error = from_profile(&json).unwrap_err().to_string();
        assert!(error.contains("desk.json") && error.contains("cpu_modle"), "{error}");
        assert!(matches!(from_profile(&folder.path().join("none")), Err(NodeError::File { .. })));
    }

    #[test]
    fn the_power_source_is_read_from_the_power_supply_class() {
        let folder = tempfile::tempdir().unwrap();
        let supply = |name: &str, files: &[(&str, &str)]| {
            fs::create_dir_all(folder.path().join(name)).unwrap();
            for (file, content) in files {
                fs::write(folder.path().join(name).join(file), content).unwrap();
            }
        };
        assert_eq!(power_source(folder.path()), None);
        supply("mouse", &[("type", "Battery\n"), ("scope", "Device\n")]);
        assert_eq!(power_source(folder.path()), None);
        supply("BAT0", &[("type", "Battery\n")]);
        supply("AC", &[("type", "Mains\n"), ("online", "0\n")]);
        assert_eq!(power_source(folder.path()).as_deref(), Some("battery"));
        supply("AC", &[("online", "1\n")]);
        assert_eq!(power_source(folder.path()).as_deref(), Some("ac"));
    }
}
