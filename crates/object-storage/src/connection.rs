//! Connects to a bucket with the credentials in the environment.

use std::{sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ObjectStore, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, prefix::PrefixStore,
};

use crate::location::{BucketLocation, Provider};

/// Bounds of the pauses between two attempts of a request.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// More attempts than fit into any `patience`.
const ATTEMPTS: usize = 10_000;

/// The objects below the prefix of `location`. Sends nothing yet. Variables of the environment that begin with
/// `AWS_`, `GOOGLE_` or `AZURE_` give credentials, region and endpoint.
///
/// A request that fails because of the network or of the store (no connection, a status 5xx or 429) is repeated
/// until `patience` has passed.
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
    let objects: Arc<dyn ObjectStore> = match location.provider {
        Provider::S3 => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            Arc::new(PrefixStore::new(builder.with_retry(retry).build()?, prefix))
        }
        Provider::GoogleCloud => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            Arc::new(PrefixStore::new(builder.with_retry(retry).build()?, prefix))
        }
        Provider::Azure => {
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            Arc::new(PrefixStore::new(builder.with_retry(retry).build()?, prefix))
        }
    };
    Ok(objects)
}
