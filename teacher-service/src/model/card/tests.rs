use super::*;

fn input(data_type: DataType, dimensions: &[Dimension]) -> TensorSpec {
    TensorSpec {
        name: "x".to_owned(),
        data_type,
        dimensions: Dimensions(dimensions.to_vec()),
    }
}

const BATCH: Dimension = Dimension::Batch;
const OPEN: Dimension = Dimension::Open;

fn fixed(size: usize) -> Dimension {
    Dimension::Fixed(size)
}

fn photos() -> TensorSpec {
    input(DataType::Fp32, &[BATCH, fixed(3), OPEN, OPEN])
}

fn config(text: &str) -> CardConfig {
    toml::from_str(text).unwrap()
}

const WHOLE: &str = r#"
    size = [224, 192]
    scale = "unit"
    mean = [0.5, 0.4, 0.3]
    std = [0.1, 0.2, 0.3]
    channel_order = "rgb"
    output = "logits"
    class_names = ["cat", "dog"]
"#;

#[test]
fn a_whole_card_is_taken_from_the_configuration() {
    let card = Card::resolve(&photos(), Some(2), &config(WHOLE), &[]).unwrap();
    let SampleCard::Images(images) = &card.samples else {
        panic!("{card:?}");
    };
    assert_eq!(images.shape, [3, 224, 192]);
    assert_eq!(images.layout, Layout::Nchw);
    assert_eq!(
        card.input().to_string(),
        "`pixels` UINT8 [batch, 3, 224, 192]"
    );
    assert_eq!(card.class_names, ["cat", "dog"]);
}

#[test]
fn every_missing_key_is_named_with_an_example() {
    for key in [
        "size",
        "scale",
        "mean",
        "std",
        "channel_order",
        "output",
        "class_names",
    ] {
        let lines = WHOLE.lines().filter(|line| !line.trim().starts_with(key));
        let text = lines.collect::<Vec<_>>().join("\n");
        let error = Card::resolve(&photos(), Some(2), &config(&text), &[]);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&format!("set model.preprocessing.{key}")),
            "{error}"
        );
        assert!(error.contains("for example"), "{error}");
    }
}

#[test]
fn the_configuration_wins_over_files_and_files_fill_gaps() {
    let file = CardFile {
        path: "folder/config.json".into(),
        card: config(WHOLE),
        crop_pct: None,
    };
    let own = config("mean = [0.0, 0.0, 0.0]");
    let card = Card::resolve(&photos(), Some(2), &own, std::slice::from_ref(&file)).unwrap();
    let SampleCard::Images(images) = &card.samples else {
        panic!("{card:?}");
    };
    let normalization = images.normalization.as_ref().unwrap();
    assert_eq!(normalization.mean, [0.0; 3]);
    assert_eq!(normalization.std, [0.1, 0.2, 0.3]);
    // The error names the file.
    let error = Card::resolve(&photos(), Some(5), &own, &[file]).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("from folder/config.json"), "{error}");
    assert!(
        error.contains("2 names, but the model has 5 classes"),
        "{error}"
    );
}

#[test]
fn an_interpolation_is_part_of_the_card_and_others_are_refused_by_name() {
    let resolve = |own: &str, file: Option<&str>| {
        let file = file.map(|name| CardFile {
            path: "folder/config.json".into(),
            card: config(&format!("interpolation = {name:?}")),
            crop_pct: Some(0.875),
        });
        let config = config(&format!("{WHOLE}\n{own}"));
        let files: Vec<_> = file.into_iter().collect();
        Card::resolve(&photos(), Some(2), &config, &files)
    };
    let bilinear = resolve("", None).unwrap();
    assert_eq!(bilinear.interpolation(), Interpolation::Bilinear);
    // The model ids of cards without this key stay as they are.
    assert!(!bilinear.describe().contains("interpolation"));
    let bicubic = resolve("", Some("bicubic")).unwrap();
    assert_eq!(bicubic.interpolation(), Interpolation::Bicubic);
    assert!(bicubic.describe().contains(r#""interpolation":"bicubic""#));
    assert_eq!(
        resolve("interpolation = \"bilinear\"", Some("bicubic")),
        Ok(bilinear.clone())
    );

    let error = resolve("", Some("lanczos")).unwrap_err().to_string();
    for part in [
        "model.preprocessing.interpolation (from folder/config.json)",
        "\"lanczos\" is not supported",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(
        resolve("interpolation = \"bilinear\"", Some("lanczos")),
        Ok(bilinear)
    );
    let mut problems = Problems::default();
    config("interpolation = \"nearest\"").validate(&mut problems);
    let problems = problems.to_string();
    assert!(
        problems.contains("model.preprocessing.interpolation = \"nearest\": must be"),
        "{problems}"
    );
}

#[test]
fn layouts_follow_from_the_channels() {
    let f32 = DataType::Fp32;
    let resolve = |dimensions: &[Dimension], more: &str| {
        let config = config(&format!("{WHOLE}\n{more}"));
        Card::resolve(&input(f32, dimensions), Some(2), &config, &[]).map(|card| card.samples)
    };
    let layout = |samples| match samples {
        Ok(SampleCard::Images(images)) => images.layout,
        other => panic!("{other:?}"),
    };
    let nhwc = [BATCH, OPEN, OPEN, fixed(3)];
    assert_eq!(layout(resolve(&nhwc, "")), Layout::Nhwc);
    let nchw = [BATCH, fixed(3), fixed(224), fixed(192)];
    assert_eq!(layout(resolve(&nchw, "")), Layout::Nchw);
    let open = [BATCH, OPEN, OPEN, OPEN];
    assert!(matches!(
        resolve(&open, ""),
        Err(CardError::Missing { key: "layout", .. })
    ));
    assert_eq!(layout(resolve(&open, "layout = \"nhwc\"")), Layout::Nhwc);
    let other_size = [BATCH, fixed(3), fixed(64), fixed(64)];
    let error = resolve(&other_size, "").unwrap_err().to_string();
    assert!(
        error.contains("the model takes images of [64, 64]"),
        "{error}"
    );
}

#[test]
fn gray_models_need_no_channel_order_and_models_of_bytes_no_normalization() {
    let gray = input(DataType::Uint8, &[BATCH, fixed(1), fixed(28), fixed(28)]);
    let own = config("output = \"logits\"\nclass_names = [\"a\", \"b\"]");
    let card = Card::resolve(&gray, Some(2), &own, &[]).unwrap();
    let SampleCard::Images(images) = &card.samples else {
        panic!("{card:?}");
    };
    assert_eq!(images.normalization, None);
    let own = config("output = \"logits\"\nclass_names = [\"a\", \"b\"]\nmean = [0.5]");
    let error = Card::resolve(&gray, Some(2), &own, &[]).unwrap_err();
    assert!(error.to_string().contains("takes u8 pixels"), "{error}");
}

#[test]
fn rows_are_taken_as_they_are() {
    let rows = input(DataType::Int32, &[BATCH, fixed(2048)]);
    let own = config("output = \"probabilities\"\nclass_names = [\"a\", \"b\"]");
    let card = Card::resolve(&rows, None, &own, &[]).unwrap();
    assert_eq!(card.samples, SampleCard::Values(vec![2048]));
    assert_eq!(card.input().to_string(), "`values` FP32 [batch, 2048]");
    let error = Card::resolve(&rows, None, &config(WHOLE), &[]).unwrap_err();
    assert!(error.to_string().contains("is for images"), "{error}");
    let open = input(DataType::Fp32, &[BATCH, OPEN]);
    let error = Card::resolve(&open, None, &own, &[]).unwrap_err();
    assert!(
        error.to_string().contains("only the batch may be open"),
        "{error}"
    );
}
