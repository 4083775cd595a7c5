use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use proptest::{prelude::*, string::string_regex};
use serde::Deserialize;

use super::*;
use crate::config::key_path::KeyPath;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Everything {
    text: String,
    path: PathBuf,
    maybe: Option<PathBuf>,
    address: Option<SocketAddr>,
    word: Option<Word>,
    truth: bool,
    small: u8,
    signed: i64,
    real: f64,
    maybe_real: Option<f64>,
    texts: Vec<String>,
    pair: [usize; 2],
    policy: Option<Policy>,
    count: Option<Count>,
    loss: Option<Loss>,
    folders: Option<Folders>,
    models: BTreeMap<String, Model>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Auto,
    #[serde(rename = "1")]
    One,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Policy {
    Latest { number: usize },
    All {},
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Count {
    Number(usize),
    Word(Word),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Loss {
    Hard {},
    Soft { temperature: f64 },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(transparent)]
struct Folders(Vec<PathBuf>);

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Model {
    threads: Option<usize>,
    label: Option<String>,
}

/// Deserializes `file` with `settings` applied.
fn read(file: &str, settings: &[(&str, &str)]) -> Result<Everything, String> {
    let mut tree = Node::parse(file).unwrap();
    for (key, text) in settings {
        let line = format!("{key}=");
        let (path, _) = KeyPath::before_equals(&line).unwrap();
        tree.set(&path, (*text).to_owned())?;
    }
    Everything::deserialize(tree).map_err(|error| error.to_string())
}

fn set(key: &str, text: &str) -> Everything {
    read("", &[(key, text)]).unwrap()
}

#[test]
fn a_text_key_takes_what_was_typed() {
    for text in [
        "20240601",
        "true",
        "12e4",
        "1.0",
        "[a]",
        "[1]",
        "{a = 1}",
        "2024-06-01",
        "nan",
        "",
        "a b",
        "\"a",
        "'",
        "a\nb = 1",
        "1\nother = 2",
        "{",
        "\\",
        "é",
        "a\"b\"",
        "\"a\" b",
    ] {
        assert_eq!(set("text", text).text, text);
        assert_eq!(set("path", text).path, PathBuf::from(text));
        assert_eq!(set("maybe", text).maybe, Some(PathBuf::from(text)));
        let label = set("models.m.label", text).models["m"].label.clone();
        assert_eq!(label.as_deref(), Some(text));
    }
}

#[test]
fn a_whole_toml_string_is_what_stands_between_its_quotes() {
    for (text, value) in [
        ("\"a\"", "a"),
        ("'a'", "a"),
        ("\"20240601\"", "20240601"),
        ("'\"a\"'", "\"a\""),
        ("\" a \"", " a "),
        ("\"a\\tb\"", "a\tb"),
        ("''", ""),
    ] {
        assert_eq!(set("text", text).text, value);
        assert_eq!(set("maybe", text).maybe, Some(PathBuf::from(value)));
    }
}

#[test]
fn other_keys_take_toml() {
    assert!(set("truth", "true").truth);
    assert_eq!(set("small", "0x10").small, 16);
    assert_eq!(set("signed", "-1_000").signed, -1000);
    assert_eq!(set("real", "12e4").real, 12e4);
    assert_eq!(set("real", "2").real, 2.0);
    assert_eq!(set("texts", "[\"1\", 'b']").texts, ["1", "b"]);
    assert_eq!(set("pair", "[1, 2]").pair, [1, 2]);
    let address = set("address", "127.0.0.1:1").address;
    assert_eq!(address, Some("127.0.0.1:1".parse().unwrap()));
    assert_eq!(set("word", "auto").word, Some(Word::Auto));
    assert_eq!(set("word", "1").word, Some(Word::One));
    assert_eq!(set("word", "\"1\"").word, Some(Word::One));
    assert_eq!(set("count", "4").count, Some(Count::Number(4)));
    assert_eq!(set("count", "auto").count, Some(Count::Word(Word::Auto)));
    let folders = Folders(vec!["a".into(), "b".into()]);
    assert_eq!(set("folders", "['a', 'b']").folders, Some(folders));
    let typed = set("models", "{ m = { threads = 2, label = '2' } }").models;
    assert_eq!(
        (typed["m"].threads, typed["m"].label.as_deref()),
        (Some(2), Some("2"))
    );
}

#[test]
fn what_does_not_fit_a_type_is_refused() {
    for (key, text, problem) in [
        (
            "truth",
            "1",
            "invalid type: integer `1`, expected a boolean",
        ),
        (
            "truth",
            "yes",
            "invalid type: string \"yes\", expected a boolean",
        ),
        ("small", "256", "invalid value: integer `256`, expected u8"),
        ("small", "", "invalid type: string \"\", expected u8"),
        ("real", "nan", "no key takes nan or an infinity"),
        ("real", "-inf", "no key takes nan or an infinity"),
        ("maybe_real", "nan", "no key takes nan or an infinity"),
        (
            "maybe_real",
            "none",
            "invalid type: string \"none\", expected f64",
        ),
        (
            "models.m",
            "{ threads = nan }",
            "no key takes nan or an infinity",
        ),
        ("texts", "a", "expected a sequence"),
        ("pair", "[1, 2, 3]", "invalid length 3"),
        ("policy", "newest", "unknown variant `newest`"),
        ("policy", "{ all = {}, latest = {} }", "single key"),
        ("count", "many", "did not match"),
        ("text.x", "1", "invalid type: map, expected a string"),
        ("nothing", "1", "unknown field `nothing`"),
        ("models.m.nothing", "1", "unknown field `nothing`"),
    ] {
        let error = read("", &[(key, text)]).unwrap_err();
        assert!(error.contains(problem), "{key}={text}: {error}");
    }
}

#[test]
fn an_inline_table_changes_single_keys_of_a_table_and_replaces_a_variant() {
    let file = "
        policy = { latest = { number = 1 } }
        loss = { kind = 'soft', temperature = 2.0 }
        models = { a = { threads = 1, label = 'x' } }
    ";
    let config = read(file, &[("models.a", "{ threads = 2 }")]).unwrap();
    let label = config.models["a"].label.as_deref();
    assert_eq!((config.models["a"].threads, label), (Some(2), Some("x")));
    let config = read(file, &[("models", "{ b = {} }"), ("models.a.label", "12")]).unwrap();
    assert_eq!(config.models["a"].label.as_deref(), Some("12"));
    assert!(config.models.contains_key("b"));
    let config = read(file, &[("policy", "{ all = {} }")]).unwrap();
    assert_eq!(config.policy, Some(Policy::All {}));
    let config = read(file, &[("policy.latest.number", "3")]).unwrap();
    assert_eq!(config.policy, Some(Policy::Latest { number: 3 }));
    for setting in [("loss", "{ temperature = 3 }"), ("loss.temperature", "3")] {
        let config = read(file, &[setting]).unwrap();
        assert_eq!(config.loss, Some(Loss::Soft { temperature: 3.0 }));
    }
    for settings in [
        &[("loss", "{ kind = 'hard' }")][..],
        &[("loss.temperature", "3"), ("loss", "{ kind = 'hard' }")],
        &[("loss.kind", "'soft'"), ("loss", "{ kind = 'hard' }")],
    ] {
        assert_eq!(read(file, settings).unwrap().loss, Some(Loss::Hard {}));
    }
    for settings in [
        &[("loss", "{ kind = 'soft' }")][..],
        &[("loss.kind", "soft"), ("loss", "{ kind = 'soft' }")],
    ] {
        let loss = read(file, settings).unwrap().loss;
        assert_eq!(loss, Some(Loss::Soft { temperature: 2.0 }));
    }
    let config = read(file, &[("loss", "{ kind = 'hard' }"), ("loss", "7")]);
    assert!(config.is_err());
    assert_eq!(set("loss.kind", "hard").loss, Some(Loss::Hard {}));
}

#[test]
fn the_last_setting_of_a_key_wins() {
    let settings = [("models.a", "{ threads = 2 }"), ("models.a.threads", "3")];
    assert_eq!(read("", &settings).unwrap().models["a"].threads, Some(3));
    let settings = [("models.a.threads", "3"), ("models.a", "{ threads = 2 }")];
    assert_eq!(read("", &settings).unwrap().models["a"].threads, Some(2));
    assert_eq!(
        read("text = 'a'", &[("text", "1"), ("text", "2")])
            .unwrap()
            .text,
        "2"
    );
}

proptest! {
    #![proptest_config(test_support::damage::cases(256))]

    #[test]
    fn any_text_that_does_not_begin_with_a_quote_is_itself(text in "[^\"']{0,40}") {
        prop_assert_eq!(&set("text", &text).text, &text);
        prop_assert_eq!(set("path", &text).path, PathBuf::from(&text));
    }

    #[test]
    fn any_text_can_be_quoted(text in any::<String>()) {
        let quoted = toml::Value::String(text.clone()).to_string();
        prop_assert_eq!(set("text", &quoted).text, text);
    }

    #[test]
    fn numbers_are_the_numbers_that_were_typed(small: u8, signed: i64, real in -1e300..1e300) {
        prop_assert_eq!(set("small", &small.to_string()).small, small);
        prop_assert_eq!(set("signed", &signed.to_string()).signed, signed);
        prop_assert_eq!(set("real", &format!("{real:?}")).real, real);
    }

    #[test]
    fn no_text_is_too_odd_for_any_key(
        key in prop::sample::select(vec![
            "text", "maybe", "address", "word", "truth", "small", "real", "texts", "pair", "policy", "count",
            "loss", "folders", "models", "models.m.threads",
        ]),
        text in prop_oneof![any::<String>(), string_regex("[\\[\\]{}\"'=,0-9.a \n-]{0,20}").unwrap()],
    ) {
        // Accepted or rejected, without a panic.
        let _ = read("models.m = {}", &[(key, &text)]);
    }
}
