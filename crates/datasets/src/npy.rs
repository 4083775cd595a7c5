//! NumPy's array files (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// An array of numbers in C order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    /// Sizes of the dimensions.
    pub(crate) shape: Vec<usize>,
    element: Element,
    big_endian: bool,
    /// As many elements as the shape has.
    data: Vec<u8>,
}

/// Type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Bool,
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// The number of samples in a file that begins with `file`, by its header alone: the first dimension of its array. `None` if
/// the header is incomplete or wrong.
pub fn npy_samples(file: &[u8]) -> Option<usize> {
    let (header, _) = header(file).ok()?;
    Dictionary::parse(header).ok()?.shape.first().copied()
}

/// The number of samples in a whole file: the first dimension of its array. `None` if the file is damaged, or has no array of
/// numbers in C order.
pub fn whole_npy_samples(file: &[u8]) -> Option<usize> {
    Layout::of(file).ok()?.shape.first().copied()
}

impl Array {
    /// Reads the content of an `.npy` file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(mut file: Vec<u8>) -> Result<Self, String> {
        let Layout {
            shape,
            element,
            big_endian,
            content,
        } = Layout::of(&file)?;
        file.drain(..content);
        Ok(Self {
            shape,
            element,
            big_endian,
            data: file,
        })
    }

    /// The rows of `self` and then those of `next`.
    ///
    /// # Errors
    /// If the two differ in anything but the number of rows.
    pub(crate) fn followed_by(mut self, next: Self) -> Result<Self, String> {
        let samples = |array: &Self| {
            (
                array.element,
                array.big_endian,
                array.shape.get(1..).map(<[usize]>::to_vec),
            )
        };
        if samples(&self) != samples(&next) || self.shape.is_empty() {
            return Err(format!(
                "{} of shape {:?} cannot follow {} of shape {:?}",
                next.element, next.shape, self.element, self.shape
            ));
        }
        self.shape[0] += next.shape[0];
        self.data.extend_from_slice(&next.data);
        Ok(self)
    }

    /// The values of an array of u8.
    ///
    /// # Errors
    /// If it has another type.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, String> {
        match self.element {
            Element::Unsigned(1) => Ok(self.data),
            element => Err(format!("its elements are {element}, expected uint8")),
        }
    }

    pub(crate) fn is_u8(&self) -> bool {
        self.element == Element::Unsigned(1)
    }

    /// The values of an array of integers.
    ///
    /// # Errors
    /// If it has another type, or a value is above 2^63 - 1.
    pub(crate) fn integers(&self) -> Result<Vec<i64>, String> {
        let numbers = self.data.chunks_exact(self.element.bytes());
        match self.element {
            Element::Signed(bytes) => Ok(numbers
                .map(|number| {
                    let unused = 64 - 8 * bytes as u32;
                    // Moves the sign to where i64 has it, and back.
                    ((self.bits(number) << unused) as i64) >> unused
                })
                .collect()),
            Element::Unsigned(_) | Element::Bool => numbers
                .map(|number| {
                    let number = self.bits(number);
                    i64::try_from(number).map_err(|_| format!("the number {number} is too large"))
                })
                .collect(),
            element @ Element::Float(_) => Err(format!("its elements are {element}, not integers")),
        }
    }

    /// The values as f32.
    ///
    /// # Errors
    /// The position of the first value that is not finite.
    pub(crate) fn floats(&self) -> Result<Vec<f32>, String> {
        let numbers = self.data.chunks_exact(self.element.bytes());
        let values: Vec<f32> = match self.element {
            Element::Float(4) => numbers
                .map(|it| f32::from_bits(self.bits(it) as u32))
                .collect(),
            Element::Float(_) => numbers
                .map(|it| f64::from_bits(self.bits(it)) as f32)
                .collect(),
            _ => self
                .integers()?
                .into_iter()
                .map(|number| number as f32)
                .collect(),
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let row: usize = self.shape.iter().skip(1).product::<usize>().max(1);
                let (row, column) = (at / row, at % row);
                Err(format!(
                    "row {row}, column {column}: not a finite number of 32 bits"
                ))
            }
        }
    }

    /// The bits of one element.
    fn bits(&self, number: &[u8]) -> u64 {
        let shift = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
        if self.big_endian {
            number.iter().fold(0, shift)
        } else {
            number.iter().rev().fold(0, shift)
        }
    }
}

/// What the header of a whole file says of it.
struct Layout {
    shape: Vec<usize>,
    element: Element,
    big_endian: bool,
    /// Where the elements begin.
    content: usize,
}

impl Layout {
    /// Reads the header of a file, and compares it with the length of the file.
    ///
    /// # Errors
    /// What is wrong with the file.
    fn of(file: &[u8]) -> Result<Self, String> {
        let (header, content) = header(file)?;
        let dictionary = Dictionary::parse(header)?;
        let (element, big_endian) = Element::parse(&dictionary.descr)?;
        let shape = dictionary.shape;
        if dictionary.fortran_order && shape.len() > 1 {
            return Err("it is in Fortran order; save `numpy.ascontiguousarray` of it".to_owned());
        }
        let elements = shape
            .iter()
            .try_fold(1_usize, |all, size| all.checked_mul(*size));
        let bytes = elements.and_then(|elements| elements.checked_mul(element.bytes()));
        let found = file.len() - content;
        if bytes != Some(found) {
            return Err(format!(
                "its shape {shape:?} of `{}` does not fit the {found} bytes that follow (truncated?)",
                dictionary.descr
            ));
        }
        Ok(Self {
            shape,
            element,
            big_endian,
            content,
        })
    }
}

impl Element {
    /// The type and whether it is big-endian.
    fn parse(descr: &str) -> Result<(Self, bool), String> {
        let element = match descr.get(1..) {
            Some("b1") => Self::Bool,
            Some("u1") => Self::Unsigned(1),
            Some("u2") => Self::Unsigned(2),
            Some("u4") => Self::Unsigned(4),
            Some("u8") => Self::Unsigned(8),
            Some("i1") => Self::Signed(1),
            Some("i2") => Self::Signed(2),
            Some("i4") => Self::Signed(4),
            Some("i8") => Self::Signed(8),
            Some("f4") => Self::Float(4),
            Some("f8") => Self::Float(8),
            _ => {
                let descr = common::text::shorten(descr, 40);
                return Err(format!(
                    "elements of type `{descr}` are not supported; use numbers"
                ));
            }
        };
        Ok((element, descr.starts_with('>')))
    }

    fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Unsigned(bytes) | Self::Signed(bytes) | Self::Float(bytes) => bytes,
        }
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = 8 * self.bytes();
        match self {
            Self::Bool => write!(formatter, "bool"),
            Self::Unsigned(_) => write!(formatter, "uint{bits}"),
            Self::Signed(_) => write!(formatter, "int{bits}"),
            Self::Float(_) => write!(formatter, "float{bits}"),
        }
    }
}

/// The text of the header, and where the elements begin.
fn header(file: &[u8]) -> Result<(&str, usize), String> {
    let Some([major, _minor, rest @ ..]) = file.strip_prefix(MAGIC) else {
        return Err("it does not begin as an array file".to_owned());
    };
    let (length, start) = match (major, rest) {
        (1, [a, b, ..]) => (usize::from(u16::from_le_bytes([*a, *b])), 10),
        (2 | 3, [a, b, c, d, ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
        _ => return Err(format!("version {major} of the format is not supported")),
    };
    let text = file.get(start..).and_then(|rest| rest.get(..length));
    let text = text.ok_or("it ends within its header (truncated?)")?;
    let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
    Ok((text, start + length))
}

/// The header's Python dictionary.
struct Dictionary {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Dictionary {
    fn parse(text: &str) -> Result<Self, String> {
        let unusual = || {
            let text = common::text::shorten(text.trim(), 80);
            format!("its header `{text}` is not that of an array of numbers")
        };
        let value = |key: &str| {
            let start = text.find(&format!("'{key}':")).map(|at| at + key.len() + 3);
            start
                .map(|start| text[start..].trim_start())
                .ok_or_else(unusual)
        };
        let descr = value("descr")?.strip_prefix('\'').ok_or_else(unusual)?;
        let (descr, _) = descr.split_once('\'').ok_or_else(unusual)?;
        let shape = value("shape")?.strip_prefix('(').ok_or_else(unusual)?;
        let (shape, _) = shape.split_once(')').ok_or_else(unusual)?;
        let sizes = shape
            .split(',')
            .map(str::trim)
            .filter(|size| !size.is_empty());
        let shape = sizes
            .map(|size| size.parse().ok())
            .collect::<Option<Vec<usize>>>();
        Ok(Self {
            descr: descr.to_owned(),
            fortran_order: value("fortran_order")?.starts_with("True"),
            shape: shape.ok_or_else(unusual)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_support::damage::{cases, foreign, in_modest_memory};

    use super::*;

    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let length = (text.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], &length, text.as_bytes(), data].concat()
    }

    /// `numpy.save(file, numpy.array([[1, -2], [300, 4]], ">i2"))` of NumPy 2.4.
    const BIG_ENDIAN: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '>i2', 'fortran_order': False, \
        'shape': (2, 2), }                                                          \n\
        \x00\x01\xff\xfe\x01\x2c\x00\x04";

    #[test]
    fn arrays_of_numbers_are_read() {
        let array = Array::parse(BIG_ENDIAN.to_vec()).unwrap();
        assert_eq!(array.shape, [2, 2]);
        assert_eq!(array.integers().unwrap(), [1, -2, 300, 4]);
        assert_eq!(array.floats().unwrap(), [1.0, -2.0, 300.0, 4.0]);
        for (descr, data, expected) in [
            ("<f8", 2.5_f64.to_le_bytes().to_vec(), 2.5),
            (">f4", (-0.25_f32).to_be_bytes().to_vec(), -0.25),
            ("<u8", 7_u64.to_le_bytes().to_vec(), 7.0),
            ("|i1", vec![0xff], -1.0),
            ("|b1", vec![1], 1.0),
        ] {
            let array = Array::parse(file(descr, "False", "(1,)", &data)).unwrap();
            assert_eq!(array.floats().unwrap(), [expected], "{descr}");
        }
        let scalar = Array::parse(file("|u1", "False", "()", &[5])).unwrap();
        assert_eq!(
            (scalar.shape.len(), scalar.into_bytes().unwrap()),
            (0, vec![5])
        );
    }

    #[test]
    fn what_cannot_be_used_is_described() {
        for (bytes, problem) in [
            (b"PK\x03\x04".to_vec(), "does not begin"),
            (BIG_ENDIAN[..40].to_vec(), "ends within its header"),
            (BIG_ENDIAN[..BIG_ENDIAN.len() - 1].to_vec(), "(truncated?)"),
            (
                file("<U5", "False", "(1,)", &[0; 20]),
                "`<U5` are not supported",
            ),
            (
                file("|O", "False", "(1,)", b"pickle"),
                "`|O` are not supported",
            ),
            (file("|u1", "True", "(1, 1)", &[0]), "Fortran order"),
            (
                file("|u1", "False", "(99999999999, 99999999999)", &[0]),
                "does not fit",
            ),
            (file("|u1", "False", "(-1,)", &[0]), "not that of an array"),
        ] {
            let error = Array::parse(bytes).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let array =
            |descr: &str, data: &[u8]| Array::parse(file(descr, "False", "(1, 1)", data)).unwrap();
        let float = array("<f8", &f64::MAX.to_le_bytes());
        assert!(float.floats().unwrap_err().contains("row 0, column 0"));
        assert!(
            float
                .integers()
                .unwrap_err()
                .contains("float64, not integers")
        );
        assert!(array("<u8", &[0xff; 8]).integers().is_err());
        assert!(
            array("|i1", &[0])
                .into_bytes()
                .unwrap_err()
                .contains("int8")
        );
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn foreign_bytes_are_an_array_or_a_line_of_text(
            bytes in foreign(vec![BIG_ENDIAN.to_vec(), file("<f4", "False", "(2,)", &[0; 8])]),
        ) {
            match in_modest_memory(|| Array::parse(bytes)) {
                Ok(array) => {
                    let elements = array.shape.iter().product::<usize>();
                    prop_assert_eq!(array.data.len(), elements * array.element.bytes());
                    let _ = (array.integers(), array.floats());
                }
                Err(problem) => prop_assert!(problem.lines().count() == 1 && problem.len() < 300),
            }
        }
    }
}
