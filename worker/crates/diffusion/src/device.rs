//! Which device to draw on.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use crate::error::{Error, ErrorKind, Result};

/// A device asked for by a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA where this build has it and a GPU answers, else Metal, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this ordinal.
    Cuda(usize),
    /// The first Metal device.
    Metal,
}

impl DeviceChoice {
    /// Opens the device. Errors if this build cannot drive it or no such device answers; `Auto` never fails.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Auto => Ok(open_cuda(0)
                .or_else(|_| open_metal())
                .unwrap_or(Device::Cpu)),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(ordinal) => open_cuda(ordinal),
            Self::Metal => open_metal(),
        }
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// What its weights are stored in.
    pub precision: Precision,
}

/// In how many bits weights are stored, and computed with where the device can.
///
/// On the CPU arithmetic is f32 whatever this says: 16 bits halve the memory, and every weight is widened when it is
/// used. On a GPU the autoencoder computes in f32 whatever this says, for SDXL's overflows in f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// [`Precision::F32`] on the CPU, [`Precision::F16`] elsewhere.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, 10 of them for the fraction.
    F16,
    /// 16 bits with f32's range, 7 of them for the fraction.
    Bf16,
}

impl Precision {
    /// What weights are stored in on `device`.
    pub(crate) fn storage(self, device: &Device) -> DType {
        match self {
            Self::Auto if device.is_cpu() => DType::F32,
            Self::F32 => DType::F32,
            Self::Auto | Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl Precision {
    /// Bytes that a weight takes in the memory of `device`.
    #[must_use]
    pub fn bytes_per_weight(self, device: &Device) -> u64 {
        u64::try_from(self.storage(device).size_in_bytes()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(Error::parameter(format!(
                "precision must be auto, f32, f16 or bf16, got {text:?}"
            ))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> Result<Device> {
    // The driver bindings panic when the driver's library cannot be loaded.
    let opened = std::panic::catch_unwind(|| Device::new_cuda(ordinal));
    match opened {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(device_error(format!(
            "cuda:{ordinal} cannot be opened: {}",
            error.to_string().lines().next().unwrap_or_default()
        ))),
        Err(_) => Err(device_error(format!(
            "cuda:{ordinal} cannot be opened: the CUDA driver library is missing"
        ))),
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(ordinal: usize) -> Result<Device> {
    Err(device_error(format!(
        "cuda:{ordinal} cannot be opened: this build has no CUDA support"
    )))
}

#[cfg(feature = "metal")]
fn open_metal() -> Result<Device> {
    Device::new_metal(0).map_err(|error| {
        device_error(format!(
            "metal cannot be opened: {}",
            error.to_string().lines().next().unwrap_or_default()
        ))
    })
}

#[cfg(not(feature = "metal"))]
fn open_metal() -> Result<Device> {
    Err(device_error(
        "metal cannot be opened: this build has no Metal support".to_owned(),
    ))
}

fn device_error(message: String) -> Error {
    Error::new(ErrorKind::Device, message)
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    Error::parameter(format!(
                        "device must be auto, cpu, cuda, cuda:<number> or metal, got {text:?}"
                    ))
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// The device's name as the API shows it: `cpu`, `cuda:0`, `metal`.
#[must_use]
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id: 0 } => "metal".to_owned(),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Free memory of a device that has its own; `None` where it shares the host's, or does not tell.
#[must_use]
pub fn device_memory_available_bytes(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => candle_core::cuda_backend::cudarc::driver::result::mem_get_info()
            .ok()
            .and_then(|(free, _)| u64::try_from(free).ok()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn device_names_parse_and_print_alike() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3", "metal"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for text in ["", "gpu", "cuda:", "cuda:x", "CPU"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_always_opens_something() {
        assert!(!device_name(&DeviceChoice::Auto.open().unwrap()).is_empty());
    }
}
