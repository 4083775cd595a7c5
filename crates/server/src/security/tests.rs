use super::*;

fn problems(listen: &str, access: PortAccess, tokens_file: Option<&str>) -> String {
    let auth = AuthConfig {
        tokens_file: tokens_file.map(PathBuf::from),
    };
    let port = ListenConfig {
        table: "grpc",
        listen: listen.parse().unwrap(),
        access,
    };
    let mut problems = Problems::default();
    validate(None, &auth, &[port], &mut problems);
    problems.to_string()
}

#[test]
fn ports_reachable_from_other_machines_need_credentials_or_explicit_access() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    Tokens::create(&file, "ci", [Scope::Runs].into(), |_| {
        Ok::<_, TokensError>(())
    })
    .unwrap();
    let tokens = file.to_str();
    for (listen, access, tokens, refused) in [
        ("127.0.0.1:1", PortAccess::ThisMachineOnly, None, false),
        ("[::1]:1", PortAccess::ThisMachineOnly, None, false),
        ("0.0.0.0:1", PortAccess::ThisMachineOnly, None, true),
        ("[::]:1", PortAccess::ThisMachineOnly, None, true),
        ("192.168.1.1:1", PortAccess::ThisMachineOnly, None, true),
        ("192.168.1.1:1", PortAccess::ThisMachineOnly, tokens, false),
        (
            "0.0.0.0:1",
            PortAccess::AnyoneWhoReachesThePort,
            None,
            false,
        ),
    ] {
        let text = problems(listen, access, tokens);
        assert_eq!(!text.is_empty(), refused, "{listen} {access:?}: {text}");
        assert_eq!(text.contains(&format!("grpc.listen = {listen}")), refused);
        assert_eq!(text.contains("set grpc.access = "), refused);
    }
}

#[test]
fn a_tokens_file_that_is_not_there_is_a_problem_on_loopback_too() {
    let text = problems(
        "127.0.0.1:1",
        PortAccess::ThisMachineOnly,
        Some("/no/tokens.toml"),
    );
    assert!(
        text.contains("auth.tokens_file = /no/tokens.toml"),
        "{text}"
    );
}
