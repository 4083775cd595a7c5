//! NumPy's array files (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// The header begins the elements at a multiple of this many bytes.
const ALIGNMENT: usize = 64;

/// The type of an array's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Uint8,
    Fp32,
}

impl Element {
    fn descr(self) -> &'static str {
        match self {
            Self::Uint8 => "|u1",
            Self::Fp32 => "<f4",
        }
    }
}

/// A file of version 1.0 with the little-endian elements `data`, an array of `shape` in C order. `shape` has two
/// dimensions or more.
pub(super) fn file(element: Element, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let dictionary = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
        element.descr(),
        sizes.join(", "),
    );
    // Magic, version and length have ten bytes, and a line feed ends the header.
    let unpadded = 10 + dictionary.len() + 1;
    let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
    // Does not truncate: a shape has at most four dimensions.
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

    #[test]
    fn the_elements_follow_a_padded_header() {
        let header = "\x76\0{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }";
        let mut expected = b"\x93NUMPY\x01\x00".to_vec();
        expected.extend_from_slice(header.as_bytes());
        expected.resize(127, b' ');
        expected.extend_from_slice(b"\n\x01\x02\x03\x04\x05\x06");
        let found = file(Element::Uint8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(found, expected);
        let rows = file(Element::Fp32, &[1, 1], &1.0_f32.to_le_bytes());
        assert!(rows.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', "));
        assert_eq!(rows.len(), 128 + 4);
    }
}
