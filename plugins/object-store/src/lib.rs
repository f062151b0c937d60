//! The `object-store` output: one object per account in S3, GCS, Azure or a folder.
