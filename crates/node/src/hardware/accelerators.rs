//! Graphics processors: NVIDIA through NVML, AMD through Linux's DRM class.

use std::{fs, path::Path};

use kamil_protocol::node::{Accelerator, AcceleratorKind};
use nvml_wrapper::Nvml;

const DRM: &str = "/sys/class/drm";
const AMD_VENDOR: &str = "0x1002";

/// The drivers that this machine has.
pub(super) struct Drivers {
    nvml: Option<Nvml>,
}

impl Drivers {
    /// NVML is a library of NVIDIA's driver, loaded only where it is there.
    pub(super) fn open() -> Self {
        Self { nvml: Nvml::init().ok() }
    }

    pub(super) fn accelerators(&self) -> Vec<Accelerator> {
        let mut found = self.nvml.as_ref().map(nvidia).unwrap_or_default();
        found.extend(amd(Path::new(DRM)));
        found
    }
}

fn nvidia(nvml: &Nvml) -> Vec<Accelerator> {
    let count = nvml.device_count().unwrap_or(0);
    let devices = (0..count).filter_map(|index| nvml.device_by_index(index).ok());
    let described = devices.filter_map(|device| {
        let memory = device.memory_info().ok()?;
        Some(Accelerator {
            kind: AcceleratorKind::Cuda,
            name: device.name().unwrap_or_else(|_| "NVIDIA".to_owned()),
            vram_total_bytes: memory.total,
            vram_available_bytes: memory.free,
            utilization: device.utilization_rates().ok().map(|rates| share(rates.gpu)),
        })
    });
    described.collect()
}

/// The kernel's `amdgpu` driver tells in plain files how much memory a card has and uses.
fn amd(drm: &Path) -> Vec<Accelerator> {
    let Ok(cards) = fs::read_dir(drm) else { return Vec::new() };
    let mut found: Vec<(String, Accelerator)> = cards
        .flatten()
        .filter_map(|card| {
            let name = card.file_name().into_string().ok()?;
            // `card0` is the card, `card0-HDMI-A-1` one of its outputs.
            name.strip_prefix("card")?.parse::<u32>().ok()?;
            let device = card.path().join("device");
            let read =
                |file: &str| fs::read_to_string(device.join(file)).ok().map(|text| text.trim().to_owned());
            let number = |file: &str| read(file)?.parse::<u64>().ok();
            if read("vendor")? != AMD_VENDOR {
                return None;
            }
            let total = number("mem_info_vram_total")?;
            let used = number("mem_info_vram_used").unwrap_or(0);
            let busy = number("gpu_busy_percent").and_then(|percent| u32::try_from(percent).ok());
            let accelerator = Accelerator {
                kind: AcceleratorKind::Rocm,
                name: read("product_name")
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(|| "AMD GPU".to_owned()),
                vram_total_bytes: total,
                vram_available_bytes: total.saturating_sub(used),
                utilization: busy.map(share),
            };
            Some((name, accelerator))
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, accelerator)| accelerator).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a percentage is exact in f32")]
fn share(percent: u32) -> f32 {
    percent.min(100) as f32 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amd_cards_are_read_from_the_drm_class() {
        let folder = tempfile::tempdir().unwrap();
        let card = |name: &str, files: &[(&str, &str)]| {
            let device = folder.path().join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            for (file, content) in files {
                fs::write(device.join(file), content).unwrap();
            }
        };
        let amd_files = [
            ("vendor", "0x1002\n"),
            ("mem_info_vram_total", "8589934592\n"),
            ("mem_info_vram_used", "1073741824\n"),
            ("gpu_busy_percent", "25\n"),
        ];
        card("card0", &amd_files);
        card("card0-DP-1", &amd_files);
        card("renderD128", &amd_files);
        card("card1", &[("vendor", "0x8086\n")]);
        let found = amd(folder.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, AcceleratorKind::Rocm);
        assert_eq!(found[0].vram_available_bytes, 7 << 30);
        assert_eq!(found[0].utilization, Some(0.25));
    }
}
