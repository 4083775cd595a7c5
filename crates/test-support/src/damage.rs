//! Damaged inputs for property tests of parsers: valid bytes with the kinds of damage that break
//! parsers, and the number of cases.

use std::fs;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::RngSeed,
};

/// Numbers that overflow a size, a sum or a product, as text and as bytes.
const HUGE: [u64; 6] = [
    u64::MAX,
    1 << 63,
    1 << 40,
    u32::MAX as u64,
    (1 << 31) - 1,
    0,
];

/// Pieces of JSON, TOML, protobuf and safetensors. Most places in an input make them invalid.
const PIECES: [&[u8]; 16] = [
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":",
    b"\"",
    b"\\ud800",
    b"null",
    b",",
    b"}",
    b"\n",
    b"\0",
    b"=",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x80",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\x1f\x8b",
];

/// Numbers that replace a number in a text.
const NUMBERS: [&str; 12] = [
    "2",
    "3",
    "-1",
    "0",
    "1e300",
    "-1e999",
    "0.1",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999",
    "00",
];

/// One change of the input. An [`Index`] becomes a position in an input of any length.
#[derive(Debug, Clone)]
enum Damage {
    FlipBit(Index, u8),
    SetByte(Index, u8),
    CutFrom(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// Inserts a copy of some bytes at another position.
    Copy(Index, usize, Index),
    /// Overwrites 1, 2, 4 or 8 bytes, as if they held a length or a count.
    Integer {
        at: Index,
        bytes: usize,
        value: u64,
        big_endian: bool,
    },
    /// Replaces the number at or after a position.
    Number(Index, &'static str),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let piece = prop_oneof![
        select(&PIECES[..]).prop_map(<[u8]>::to_vec),
        vec(any::<u8>(), 1..12),
    ];
    prop_oneof![
        (at(), 0..8u8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        (at(), prop_oneof![any::<u8>(), 0..8u8]).prop_map(|(at, value)| Damage::SetByte(at, value)),
        at().prop_map(Damage::CutFrom),
        (at(), 1..20usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        (at(), piece).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        (at(), 1..200usize, at()).prop_map(|(from, length, to)| Damage::Copy(from, length, to)),
        (
            at(),
            select(&[1usize, 2, 4, 8][..]),
            select(&HUGE[..]),
            any::<bool>()
        )
            .prop_map(|(at, bytes, value, big_endian)| Damage::Integer {
                at,
                bytes,
                value,
                big_endian,
            }),
        (at(), select(&NUMBERS[..])).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let range = |at: &Index, count: usize| {
            let start = at.index(length);
            start..length.min(start + count)
        };
        match self {
            Self::FlipBit(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::SetByte(at, value) => bytes[at.index(length)] = *value,
            Self::CutFrom(at) => bytes.truncate(at.index(length)),
            Self::Remove(at, count) => drop(bytes.drain(range(at, *count))),
            Self::Insert(at, piece) => {
                let at = at.index(length);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Copy(from, count, to) => {
                let (copied, to) = (bytes[range(from, *count)].to_vec(), to.index(length));
                bytes.splice(to..to, copied);
            }
            Self::Integer {
                at,
                bytes: width,
                value,
                big_endian,
            } => {
                let encoded = if *big_endian {
                    value.to_be_bytes()[8 - width..].to_vec()
                } else {
                    value.to_le_bytes()[..*width].to_vec()
                };
                let range = range(at, *width);
                let count = range.len();
                bytes[range].copy_from_slice(&encoded[..count]);
            }
            Self::Number(at, number) => {
                let start = at.index(length);
                let of_number = |byte: &u8| byte.is_ascii_digit() || b".e-".contains(byte);
                let digit = bytes[start..].iter().position(u8::is_ascii_digit);
                if let Some(first) = digit.map(|digit| start + digit) {
                    let rest = bytes[first..].iter().copied();
                    let end = first + rest.take_while(of_number).count();
                    bytes.splice(first..end, number.bytes());
                }
            }
        }
    }
}

/// Generates one of `valid` with one to three changes.
pub fn damaged(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (select(valid), vec(damage(), 1..4)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    })
}

/// Generates bytes as a stranger might send them: nine of ten are [`damaged`], the others are random.
pub fn foreign(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => damaged(valid),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// [`foreign`] as text, with replacement characters for bytes that are not UTF-8.
pub fn foreign_text(valid: Vec<String>) -> impl Strategy<Value = String> {
    let valid = valid.into_iter().map(String::into_bytes).collect();
    foreign(valid).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Configures `cases` cases that are the same in every run, so that no build fails by chance.
/// `PROPTEST_CASES` sets another number, `PROPTEST_RNG_SEED` other cases. A failure prints the smallest
/// input that causes it, and writes no file.
pub fn cases(cases: u32) -> ProptestConfig {
    let from_environment = ProptestConfig::default();
    let more = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if more { from_environment.cases } else { cases },
        rng_seed: match from_environment.rng_seed {
            RngSeed::Random => RngSeed::Fixed(1),
            fixed => fixed,
        },
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..from_environment
    }
}

/// Runs `parse` and fails if this thread touched more than 64 MiB of new memory meanwhile; the inputs
/// are small. Memory of other threads does not count, because tests run in parallel.
pub fn in_modest_memory<T>(parse: impl FnOnce() -> T) -> T {
    const MODEST_PAGES: u64 = (64 << 20) / 4096;
    let before = pages_touched();
    let parsed = parse();
    let touched = pages_touched() - before;
    assert!(
        touched <= MODEST_PAGES,
        "a small input took {touched} pages"
    );
    parsed
}

/// Minor page faults of this thread so far: field 10 of proc_pid_stat(5).
fn pages_touched() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
    // The second field, a name in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let faults = fields.split_whitespace().nth(7);
    faults
        .and_then(|faults| faults.parse().ok())
        .expect("a number")
}

/// Encodes a protobuf message that nests `depth` messages. The field numbers, from the outermost
/// message inwards, are `fields` and then `cycle`, repeated.
pub fn nested_messages(fields: &[u32], cycle: &[u32], depth: usize) -> Vec<u8> {
    let path = fields.iter().chain(cycle.iter().cycle()).take(depth);
    let path: Vec<_> = path.collect();
    // Writes the innermost message first and backwards, so that adding a header moves no bytes.
    let mut reversed: Vec<u8> = Vec::new();
    for field in path.into_iter().rev() {
        let head = [
            varint(u64::from(field << 3 | 2)),
            varint(reversed.len() as u64),
        ];
        reversed.extend(head.concat().iter().rev());
    }
    reversed.reverse();
    reversed
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
