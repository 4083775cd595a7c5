//! Connects to a bucket with the credentials in the environment.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    prefix::PrefixStore,
};

use crate::location::{BucketLocation, Provider};

/// Bounds of the pauses between two attempts of a request.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// More attempts than fit into any `patience`.
const ATTEMPTS: usize = 10_000;

/// Limit of a whole transfer: none that matters, because its duration depends on the object and the network.
const LONGEST_TRANSFER: &str = "365days";

/// Limit of the time until an answer begins, and between two parts of it, unless the environment has another one.
const LONGEST_SILENCE: &str = "30s";

/// The objects below the prefix of `location`. Sends nothing yet. Variables of the environment that begin with
/// `AWS_`, `GOOGLE_` or `AZURE_` give credentials, region and endpoint.
///
/// A request that fails because of the network or of the store (no connection, a status 5xx or 429) is repeated
/// until `patience` has passed. A request fails if nothing arrives for 30 s; the variables `AWS_READ_TIMEOUT`,
/// `GOOGLE_READ_TIMEOUT` and `AZURE_READ_TIMEOUT` change that.
///
/// # Errors
/// If the variables contradict each other, or a necessary one is missing.
pub(crate) fn connect(
    location: &BucketLocation,
    patience: Duration,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    // The HTTP client uses the provider of the process. An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_PAUSE,
            max_backoff: LONGEST_PAUSE,
            base: 2.0,
        },
        max_retries: ATTEMPTS,
        retry_timeout: patience,
    };
    let bucket = &location.bucket;
    let prefix = location.prefix.clone();
    macro_rules! objects {
        ($builder:expr, $key:ident) => {{
            let transfer = $key::Client(ClientConfigKey::Timeout);
            let silence = $key::Client(ClientConfigKey::ReadTimeout);
            let builder = $builder.with_retry(retry);
            let longest_silence = builder.get_config_value(&silence);
            let longest_silence = longest_silence.unwrap_or_else(|| LONGEST_SILENCE.to_owned());
            let builder = builder.with_config(transfer, LONGEST_TRANSFER);
            let builder = builder.with_config(silence, longest_silence);
            Arc::new(PrefixStore::new(builder.build()?, prefix))
        }};
    }
    let objects: Arc<dyn ObjectStore> = match location.provider {
        Provider::S3 => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            objects!(builder, AmazonS3ConfigKey)
        }
        Provider::GoogleCloud => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            objects!(builder, GoogleConfigKey)
        }
        Provider::Azure => {
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            objects!(builder, AzureConfigKey)
        }
    };
    Ok(objects)
}
