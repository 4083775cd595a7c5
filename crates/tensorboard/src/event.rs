//! The protobuf messages of an event file, written by hand after TensorBoard's `event.proto` and `summary.proto`.
//!
//! They have the fields that Retort writes. Names and meanings are those of TensorBoard.

use prost::{Enumeration, Message, Oneof};

/// One record of an event file.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Position in the run.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// What happened.
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
}

/// The content of an event.
#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    /// The version of the format; the first record of every file.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Figures of the step.
    #[prost(message, tag = "5")]
    Summary(Summary),
    /// A process began or ended.
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Figures of one step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// The figures.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// One figure.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Name of the curve; TensorBoard groups names by the part before the first `/`.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The figure.
    #[prost(oneof = "Figure", tags = "2, 5")]
    pub value: Option<Figure>,
}

/// The kinds of figures.
#[derive(Clone, PartialEq, Oneof)]
pub enum Figure {
    /// A scalar.
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    /// A histogram.
    #[prost(message, tag = "5")]
    Histo(HistogramProto),
}

/// A histogram; all vectors have one element per bucket.
#[derive(Clone, PartialEq, Message)]
pub struct HistogramProto {
    /// Smallest value.
    #[prost(double, tag = "1")]
    pub min: f64,
    /// Largest value.
    #[prost(double, tag = "2")]
    pub max: f64,
    /// Number of values.
    #[prost(double, tag = "3")]
    pub num: f64,
    /// Sum of the values.
    #[prost(double, tag = "4")]
    pub sum: f64,
    /// Sum of their squares.
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// Upper ends of the buckets.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    /// Number of values in each bucket.
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// A process began or ended.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// Which of both.
    #[prost(enumeration = "SessionStatus", tag = "1")]
    pub status: i32,
}

/// What a process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SessionStatus {
    /// Unknown.
    Unspecified = 0,
    /// It began: readers drop events of this step and of later ones that they have seen before.
    Start = 1,
}

impl Value {
    /// A scalar. TensorBoard stores 32 bits.
    pub fn scalar(tag: impl Into<String>, value: f64) -> Self {
        Self {
            tag: tag.into(),
            value: Some(Figure::SimpleValue(value as f32)),
        }
    }

    /// A histogram.
    pub fn histogram(tag: impl Into<String>, histogram: HistogramProto) -> Self {
        Self {
            tag: tag.into(),
            value: Some(Figure::Histo(histogram)),
        }
    }
}
