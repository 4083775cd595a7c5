"""The common parts of deploy/check-azurite and deploy/check-gcs: the model store, recordings and runs in a bucket."""
