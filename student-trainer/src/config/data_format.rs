//! The format of a run's data.

use datasets::{Format, UnknownFormat};
use serde::{Deserialize, Serialize};

/// The format of a run's data; `None` for `auto`, which detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataFormat(pub Option<Format>);

const AUTO: &str = "auto";

impl TryFrom<String> for DataFormat {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if name == AUTO {
            return Ok(Self(None));
        }
        let format: Result<Format, UnknownFormat> = name.parse();
        let format = format.map_err(|error| format!("{error}, and {AUTO} to detect it"))?;
        Ok(Self(Some(format)))
    }
}

impl From<DataFormat> for String {
    fn from(format: DataFormat) -> Self {
        format.0.map_or(AUTO, Format::name).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_and_others_are_refused() {
        let formats = Format::ALL.map(Some).into_iter().chain([None]);
        for format in formats.map(DataFormat) {
            assert_eq!(DataFormat::try_from(String::from(format)), Ok(format));
        }
        let error = DataFormat::try_from("tiff".to_owned()).unwrap_err();
        assert!(
            error.contains("idx, image-folder") && error.contains("auto"),
            "{error}"
        );
    }
}
