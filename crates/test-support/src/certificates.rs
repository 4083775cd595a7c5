//! Certificates, keys and tokens for tests of several processes, in a temporary folder.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use server::security::{
    Scope, Token,
    client::{Credentials, TokenSource},
    tls::ClientTls,
    tokens_file::{Tokens, TokensError},
};

/// A folder with the certificates `server`, `client` and `expired` of the authority `ca`, and
/// `foreign` of the authority `foreign-ca`.
pub struct Keys(tempfile::TempDir);

impl Keys {
    /// Creates both authorities and the certificates that they sign.
    pub fn new() -> Self {
        let keys = Self(tempfile::tempdir().expect("a temporary folder"));
        let own = keys.authority("ca", "Retort's test authority");
        let foreign = keys.authority("foreign-ca", "A foreign authority");
        keys.sign(&own, "server", 2100);
        keys.sign(&own, "client", 2100);
        keys.sign(&own, "expired", 2001);
        keys.sign(&foreign, "foreign", 2100);
        keys
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `--set` arguments for the service's own certificate.
    pub fn tls_settings(&self) -> Vec<String> {
        vec![
            format!("grpc.tls.certificate={}", self.path("server.pem").display()),
            format!("grpc.tls.key={}", self.path("server.key").display()),
        ]
    }

    /// `--set` arguments for the service's own certificate; clients must send one too.
    pub fn mutual_tls_settings(&self) -> Vec<String> {
        let mut settings = self.tls_settings();
        let client_ca = self.path("ca.pem");
        settings.push(format!("grpc.tls.client_ca={}", client_ca.display()));
        settings
    }

    /// `--set` argument for the tokens file, which [`token`](Self::token) fills.
    pub fn tokens_setting(&self) -> String {
        format!("auth.tokens_file={}", self.tokens_file().display())
    }

    pub fn tokens_file(&self) -> PathBuf {
        self.path("tokens.toml")
    }

    /// Adds a token called `name` to the tokens file and writes it to the file `<name>.token`.
    pub fn token(&self, name: &str, scope: Scope) -> Token {
        let shown = |_: &Token| Ok::<_, TokensError>(());
        let token = Tokens::create(&self.tokens_file(), name, [scope].into(), shown);
        let token = token.expect("a token is created");
        self.write(&format!("{name}.token"), token.reveal());
        token
    }

    /// Writes a token that no service knows to the file `<name>.token`.
    pub fn unknown_token(&self, name: &str) -> Token {
        let token = Token::generate().expect("a token is made");
        self.write(&format!("{name}.token"), token.reveal());
        token
    }

    /// Credentials of a client that trusts the authority `ca` and sends the named certificate and
    /// token.
    pub fn client(&self, ca: &str, certificate: Option<&str>, token: Option<&str>) -> Credentials {
        let file = |name: &str, ending: &str| self.path(&format!("{name}.{ending}"));
        Credentials {
            tls: Some(ClientTls {
                ca: file(ca, "pem"),
                certificate: certificate.map(|name| file(name, "pem")),
                key: certificate.map(|name| file(name, "key")),
                server_name: None,
            }),
            ..self.plain_client(token)
        }
    }

    /// Credentials of a client without TLS that sends the named token.
    pub fn plain_client(&self, token: Option<&str>) -> Credentials {
        let file = token.map(|name| self.path(&format!("{name}.token")));
        Credentials {
            token: TokenSource::from_file(file.as_deref()),
            ..Credentials::default()
        }
    }

    fn authority(&self, name: &str, common_name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key is made");
        let authority = CertifiedIssuer::self_signed(params, key).expect("it is signed");
        self.write(&format!("{name}.pem"), &authority.pem());
        authority
    }

    fn sign(&self, authority: &CertifiedIssuer<'_, KeyPair>, name: &str, last_year: i32) {
        let names = ["localhost", "127.0.0.1"].map(String::from);
        let mut params = CertificateParams::new(names).expect("the names are good");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, authority).expect("it is signed");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the file is written");
    }
}
