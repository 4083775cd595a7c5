//! Writes NumPy's array files (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// The header begins the elements at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// The type of the elements of an array file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NpyElement {
    /// `numpy.uint8`
    Uint8,
    /// `numpy.float32`
    Fp32,
}

impl NpyElement {
    fn descr(self) -> &'static str {
        match self {
            Self::Uint8 => "|u1",
            Self::Fp32 => "<f4",
        }
    }
}

/// An `.npy` file of version 1.0 with the little-endian elements `data`, an array of `shape` in C order. Arrays of NumPy
/// have at most 64 dimensions.
pub fn npy_file(element: NpyElement, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    // A tuple of one number ends with a comma.
    let end = if shape.len() == 1 { "," } else { "" };
    let dictionary = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}{end}), }}",
        element.descr(),
        sizes.join(", "),
    );
    // Magic, version and length have ten bytes, and a line feed ends the header.
    let unpadded = 10 + dictionary.len() + 1;
    let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
    // Does not truncate: 64 sizes have at most 1,408 characters.
    let length = (dictionary.len() + padding + 1) as u16;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(dictionary.as_bytes());
    file.resize(file.len() + padding, b' ');
    file.push(b'\n');
    file.extend_from_slice(data);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::npy::{Array, npy_samples, whole_npy_samples};

    #[test]
    fn the_elements_follow_a_padded_header() {
        let header = "\x76\0{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }";
        let mut expected = b"\x93NUMPY\x01\x00".to_vec();
        expected.extend_from_slice(header.as_bytes());
        expected.resize(127, b' ');
        expected.extend_from_slice(b"\n\x01\x02\x03\x04\x05\x06");
        let found = npy_file(NpyElement::Uint8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(found, expected);
    }

    #[test]
    fn arrays_of_every_type_and_shape_are_read_again() {
        let rows = [0.5_f32, -2.0].map(f32::to_le_bytes).concat();
        for (element, shape, data, expected) in [
            (NpyElement::Uint8, &[2][..], &[7, 255][..], [7.0, 255.0]),
            (
                NpyElement::Uint8,
                &[1, 1, 1, 2][..],
                &[0, 1][..],
                [0.0, 1.0],
            ),
            (NpyElement::Fp32, &[1, 2][..], &rows[..], [0.5, -2.0]),
        ] {
            let file = npy_file(element, shape, data);
            assert_eq!(npy_samples(&file), Some(shape[0]));
            // The header is enough, and half of it is not.
            let header = file.len() - data.len();
            assert_eq!(npy_samples(&file[..header]), Some(shape[0]));
            assert_eq!(npy_samples(&file[..header / 2]), None);
            assert_eq!(whole_npy_samples(&file), Some(shape[0]));
            assert_eq!(whole_npy_samples(&file[..file.len() - 1]), None);
            let array = Array::parse(file).unwrap();
            assert_eq!(array.shape, shape);
            assert_eq!(array.floats().unwrap(), expected);
        }
    }
}
