//! Selection of the device.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};
use tch::{Cuda, Device};

/// The device in a configuration: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device if libtorch can use one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

/// The configuration selects a CUDA device that libtorch cannot use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceUnavailable {
    /// There is no CUDA device, or this libtorch is a CPU build.
    #[error(
        "device \"cuda:{asked}\" is not available: libtorch finds no CUDA device; use \"cpu\", or a \
         machine with a GPU and a CUDA build of libtorch"
    )]
    NoCuda {
        /// Index of the configured device.
        asked: usize,
    },
    /// The machine has fewer CUDA devices.
    #[error(
        "device \"cuda:{asked}\" does not exist: this machine has {count} CUDA devices, numbered from 0"
    )]
    TooFew {
        /// Index of the configured device.
        asked: usize,
        /// Number of CUDA devices.
        count: usize,
    },
}

impl DeviceChoice {
    /// Resolves the choice on this machine.
    ///
    /// # Errors
    /// [`DeviceUnavailable`] if the CUDA device does not exist.
    pub fn resolve(self) -> Result<Device, DeviceUnavailable> {
        let count = if Cuda::is_available() {
            usize::try_from(Cuda::device_count()).unwrap_or(0)
        } else {
            0
        };
        match self {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Auto if count == 0 => Ok(Device::Cpu),
            DeviceChoice::Auto => Ok(Device::Cuda(0)),
            DeviceChoice::Cuda(asked) if asked < count => Ok(Device::Cuda(asked)),
            DeviceChoice::Cuda(asked) if count == 0 => Err(DeviceUnavailable::NoCuda { asked }),
            DeviceChoice::Cuda(asked) => Err(DeviceUnavailable::TooFew { asked, count }),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            other => other
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| {
                    format!(
                        "`{other}` is not a device; use \"auto\", \"cpu\", \"cuda\" or \"cuda:1\""
                    )
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_parsed_and_displayed() {
        for (text, choice, shown) in [
            ("auto", DeviceChoice::Auto, "auto"),
            ("cpu", DeviceChoice::Cpu, "cpu"),
            ("cuda", DeviceChoice::Cuda(0), "cuda:0"),
            ("cuda:3", DeviceChoice::Cuda(3), "cuda:3"),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), shown);
        }
        for text in ["", "tpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn the_error_names_a_missing_device() {
        assert_eq!(DeviceChoice::Cpu.resolve(), Ok(Device::Cpu));
        let error = DeviceChoice::Cuda(99).resolve().unwrap_err().to_string();
        assert!(error.contains("cuda:99"), "{error}");
    }
}
