//! Splits a body of several files: `multipart/form-data` (RFC 7578), as `curl -F image=@a.jpg` sends it.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use memchr::memmem;

/// Longest boundary (RFC 2046, section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;
/// More parts than any batch has samples; each takes memory beside its content.
const MOST_PARTS: usize = 1 << 16;

/// The boundary of a multipart body; `None` if the body is one file.
///
/// # Errors
/// A message if the boundary is missing or too long.
pub(super) fn boundary(headers: &HeaderMap) -> Result<Option<String>, String> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let mut parameters = parts.filter_map(|parameter| parameter.split_once('='));
    let boundary = parameters.find(|(name, _)| name.eq_ignore_ascii_case("boundary"));
    let boundary = boundary.map(|(_, value)| value.trim_matches('"'));
    match boundary {
        Some(boundary) if (1..=LONGEST_BOUNDARY).contains(&boundary.len()) => {
            Ok(Some(boundary.to_owned()))
        }
        _ => Err(format!(
            "content-type: needs a boundary of 1 to {LONGEST_BOUNDARY} characters"
        )),
    }
}

/// The contents of the parts, in order. They share the bytes of `body`.
///
/// # Errors
/// A message if the body is truncated or does not begin with the boundary.
pub(super) fn parts(body: &Bytes, boundary: &str) -> Result<Vec<Bytes>, String> {
    // Every delimiter but the first follows a line end, which is not part of the content.
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = memmem::Finder::new(&delimiter);
    let first = delimiter.needle().len() - 2;
    if !body.starts_with(&delimiter.needle()[2..]) {
        return Err("the body does not begin with the boundary".to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = body.slice(first..);
    while !rest.starts_with(b"--") {
        if parts.len() == MOST_PARTS {
            return Err(format!("the body has more than {MOST_PARTS} parts"));
        }
        let truncated = || "the last part is truncated".to_owned();
        // The line end before the first header stands before the empty line, too, if there are no headers.
        let headers = memmem::find(&rest, b"\r\n\r\n").ok_or_else(truncated)?;
        let content = rest.slice(headers + 4..);
        let end = delimiter.find(&content).ok_or_else(truncated)?;
        parts.push(content.slice(..end));
        rest = content.slice(end + delimiter.needle().len()..);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::{collection::vec, prelude::*};
    use test_support::damage::cases;

    use super::*;

    fn body(boundary: &str, contents: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for (number, content) in contents.iter().enumerate() {
            body.extend(format!("--{boundary}\r\n").bytes());
            body.extend(b"Content-Disposition: form-data; name=\"image\"");
            body.extend(format!("; filename=\"{number}.png\"\r\n").bytes());
            body.extend(b"Content-Type: image/png\r\n\r\n");
            body.extend(content);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        body
    }

    #[test]
    fn the_boundary_is_a_parameter_of_the_content_type() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            boundary(&headers)
        };
        for (content_type, expected) in [
            ("image/png", None),
            ("multipart/form-data; boundary=x-1", Some("x-1")),
            (
                "Multipart/Form-Data; charset=utf-8; Boundary=\"x 1\"",
                Some("x 1"),
            ),
        ] {
            assert_eq!(
                of(content_type),
                Ok(expected.map(str::to_owned)),
                "{content_type}"
            );
        }
        assert_eq!(boundary(&HeaderMap::new()), Ok(None));
        for content_type in ["multipart/form-data", "multipart/form-data; boundary="] {
            assert!(
                of(content_type).unwrap_err().contains("boundary"),
                "{content_type}"
            );
        }
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn parts_are_their_very_contents_and_a_truncated_body_is_refused(
            contents in vec(vec(any::<u8>(), 0..40), 0..5), cut in any::<prop::sample::Index>(),
        ) {
            let sent = Bytes::from(body("b-o-u-n-d-a-r-y", &contents));
            let found = parts(&sent, "b-o-u-n-d-a-r-y").unwrap();
            prop_assert_eq!(found, contents);
            // What follows the final boundary does not matter.
            let end = sent.len() - "--\r\n".len();
            prop_assert!(parts(&sent.slice(..cut.index(end)), "b-o-u-n-d-a-r-y").is_err());
        }

        #[test]
        fn any_bytes_are_parts_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
            let sent = Bytes::from([b"--x\r\n".as_slice(), &bytes].concat());
            if let Ok(parts) = parts(&sent, "x") {
                prop_assert!(parts.iter().map(Bytes::len).sum::<usize>() <= sent.len());
            }
        }
    }
}
