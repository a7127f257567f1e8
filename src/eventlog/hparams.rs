//! Experiments of many runs for TensorBoard's HParams: which settings and metrics there are, with what a run was made,
//! how it ended.
//!
//! TensorBoard believes the first of these that it sees of a run, and keeps it. So each stands in a small event file of
//! its own, which is written whole, and removed or replaced when a run starts over; these functions make its content.

use std::collections::BTreeMap;

use prost::Message;

use super::event::{self, EncodeError};
use super::file::WRITER;
use super::plugin;
use super::proto;
use super::proto::hparam_info::{Domain as WireDomain, Type};
use super::proto::hparam_value::Kind as WireValue;
use super::proto::hparams_plugin_data::Data;
use super::proto::metric_info::DatasetType;
use crate::types::{Step, WallTime};

/// Tags by which TensorBoard finds columns and sessions.
pub(super) const EXPERIMENT_TAG: &str = "_hparams_/experiment";
pub(super) const SESSION_TAG: &str = "_hparams_/session_start_info";

/// The value of one setting. A number that is not finite is left out: TensorBoard has no place for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Hparam {
    Number(f64),
    Text(String),
    Bool(bool),
}

/// Type of a setting's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HparamKind {
    Number,
    Text,
    Bool,
}

/// Possible values of a setting, for the filters beside the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Domain {
    /// Of its kind, and no more is known.
    #[default]
    Any,
    Interval {
        min: f64,
        max: f64,
    },
    OneOf(Vec<Hparam>),
}

/// A setting: a column of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct HparamInfo {
    pub name: String,
    /// Empty for the name itself.
    pub display_name: String,
    pub description: String,
    pub kind: HparamKind,
    pub domain: Domain,
    /// It differs between sessions, or is likely to: such columns stand first.
    pub differs: bool,
}

/// The samples on which a metric is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricOf {
    Training,
    Validation,
}

/// A metric: a column of the table, whose value is the last point of a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricInfo {
    /// The directory below the session's that holds the scalar; empty for the session's own.
    pub group: String,
    /// Of the scalar.
    pub tag: String,
    /// Empty for the group and the tag.
    pub display_name: String,
    pub description: String,
    pub of: MetricOf,
}

/// The columns of all sessions: once, in the directory above them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Experiment {
    /// Markdown.
    pub description: String,
    /// The table has those that differ first, each part by name, and shows five of them until it is asked for more.
    pub hparams: Vec<HparamInfo>,
    pub metrics: Vec<MetricInfo>,
}

/// Settings of a session. Its directory is its name, and must not be the one that TensorBoard is started on.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionStart {
    pub hparams: BTreeMap<String, Hparam>,
    /// Sessions of the same group are one row, with the means of their metrics. Empty for a row of its own.
    pub group: String,
    pub time: WallTime,
}

/// End of a session. A session without it may still be running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionEnd {
    pub status: Status,
    pub time: WallTime,
    /// The last one of the directory's curves, since steps only grow.
    pub step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    Failure,
}

impl Experiment {
    /// The content of an event file.
    pub fn event_file(&self, now: WallTime) -> Result<Vec<u8>, EncodeError> {
        let experiment = proto::HparamsExperiment {
            description: self.description.clone(),
            hparam_infos: self.hparams.iter().map(HparamInfo::to_wire).collect(),
            metric_infos: self.metrics.iter().map(MetricInfo::to_wire).collect(),
            ..Default::default()
        };
        event_file(EXPERIMENT_TAG, Data::Experiment(experiment), now, Step::ZERO)
    }
}

impl SessionStart {
    /// The content of an event file.
    pub fn event_file(&self) -> Result<Vec<u8>, EncodeError> {
        let value = |(name, value): (&String, &Hparam)| Some((name.clone(), value.to_wire()?));
        let info = proto::SessionStartInfo {
            hparams: self.hparams.iter().filter_map(value).collect(),
            group_name: self.group.clone(),
            start_time_secs: self.time.as_secs(),
            ..Default::default()
        };
        event_file(SESSION_TAG, Data::SessionStartInfo(info), self.time, Step::ZERO)
    }
}

impl SessionEnd {
    /// The content of an event file.
    pub fn event_file(&self) -> Result<Vec<u8>, EncodeError> {
        let status = match self.status {
            Status::Success => proto::session_end_info::Status::Success,
            Status::Failure => proto::session_end_info::Status::Failure,
        };
        let info = proto::SessionEndInfo { status: status.into(), end_time_secs: self.time.as_secs() };
        event_file("_hparams_/session_end_info", Data::SessionEndInfo(info), self.time, self.step)
    }
}

impl Hparam {
    fn to_wire(&self) -> Option<proto::HparamValue> {
        let kind = match self {
            Hparam::Number(number) if !number.is_finite() => return None,
            Hparam::Number(number) => WireValue::NumberValue(*number),
            Hparam::Text(text) => WireValue::StringValue(text.clone()),
            Hparam::Bool(truth) => WireValue::BoolValue(*truth),
        };
        Some(proto::HparamValue { kind: Some(kind) })
    }
}

impl HparamInfo {
    pub fn new(name: impl Into<String>, kind: HparamKind, description: impl Into<String>) -> HparamInfo {
        let (display_name, domain) = (String::new(), Domain::Any);
        HparamInfo { name: name.into(), display_name, description: description.into(), kind, domain, differs: false }
    }

    pub(super) fn to_wire(&self) -> proto::HparamInfo {
        let kind = match self.kind {
            HparamKind::Number => Type::Float64,
            HparamKind::Text => Type::String,
            HparamKind::Bool => Type::Bool,
        };
        let domain = match &self.domain {
            Domain::Any => None,
            Domain::Interval { min, max } => {
                Some(WireDomain::DomainInterval(proto::Interval { min_value: *min, max_value: *max }))
            }
            Domain::OneOf(values) => {
                let values = values.iter().filter_map(Hparam::to_wire).collect();
                Some(WireDomain::DomainDiscrete(proto::HparamListValue { values }))
            }
        };
        proto::HparamInfo {
            name: self.name.clone(),
            display_name: self.display_name.clone(),
            description: self.description.clone(),
            r#type: kind.into(),
            domain,
            differs: self.differs,
        }
    }
}

impl MetricInfo {
    pub(super) fn to_wire(&self) -> proto::MetricInfo {
        let of = match self.of {
            MetricOf::Training => DatasetType::Training,
            MetricOf::Validation => DatasetType::Validation,
        };
        proto::MetricInfo {
            name: Some(proto::MetricName { group: self.group.clone(), tag: self.tag.clone() }),
            display_name: self.display_name.clone(),
            description: self.description.clone(),
            dataset_type: of.into(),
        }
    }
}

pub(super) fn event_file(tag: &str, data: Data, now: WallTime, step: Step) -> Result<Vec<u8>, EncodeError> {
    let content = proto::HparamsPluginData { version: 0, data: Some(data) }.encode_to_vec();
    let mut bytes = Vec::new();
    event::append_version(&mut bytes, now, WRITER)?;
    event::append_metadata(&mut bytes, now, step, tag, plugin::HPARAMS, content)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::proto::event::What as Wire;
    use crate::eventlog::reader::EventReader;

    fn time(secs: f64) -> WallTime {
        WallTime::from_secs(secs).unwrap()
    }

    /// Tag and data of the one value in an event file.
    fn read(bytes: &[u8]) -> (String, Data) {
        let events: Vec<_> = EventReader::new(bytes).map(|(_, event)| event.unwrap()).collect();
        assert!(matches!(events[0].what, Some(Wire::FileVersion(_))) && events.len() == 2);
        let Some(Wire::Summary(summary)) = &events[1].what else { panic!("{events:?}") };
        let metadata = summary.value[0].metadata.as_ref().unwrap().plugin_data.as_ref().unwrap();
        assert_eq!(metadata.plugin_name, "hparams");
        let data = proto::HparamsPluginData::decode(metadata.content.as_slice()).unwrap().data.unwrap();
        (summary.value[0].tag.clone(), data)
    }

    #[test]
    fn a_session_says_what_it_is_made_with() {
        let values = [
            ("rate", Hparam::Number(0.001)),
            ("lost", Hparam::Number(f64::NAN)),
            ("optimizer", Hparam::Text("adam".to_owned())),
            ("augment", Hparam::Bool(false)),
        ];
        let hparams = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let start = SessionStart { hparams, group: "g".to_owned(), time: time(5.0) };
        let (tag, data) = read(&start.event_file().unwrap());
        assert_eq!(tag, "_hparams_/session_start_info");
        let Data::SessionStartInfo(info) = data else { panic!("{data:?}") };
        assert_eq!((info.group_name.as_str(), info.start_time_secs), ("g", 5.0));
        let kinds: Vec<_> = info.hparams.into_iter().map(|(name, value)| (name, value.kind.unwrap())).collect();
        let want = [
            ("augment".to_owned(), WireValue::BoolValue(false)),
            ("optimizer".to_owned(), WireValue::StringValue("adam".to_owned())),
            ("rate".to_owned(), WireValue::NumberValue(0.001)),
        ];
        assert_eq!(kinds, want);
    }

    #[test]
    fn a_session_ends_well_or_not() {
        for (status, want) in [(Status::Success, 1), (Status::Failure, 2)] {
            let (tag, data) = read(&SessionEnd { status, time: time(9.0), step: Step::ZERO }.event_file().unwrap());
            assert_eq!(tag, "_hparams_/session_end_info");
            assert_eq!(data, Data::SessionEndInfo(proto::SessionEndInfo { status: want, end_time_secs: 9.0 }));
        }
    }

    #[test]
    fn an_experiment_lists_the_columns() {
        let kinds = [
            (HparamKind::Number, Domain::Interval { min: 0.0, max: 1.0 }),
            (HparamKind::Text, Domain::OneOf(vec![Hparam::Text("a".to_owned())])),
            (HparamKind::Bool, Domain::Any),
        ];
        let hparams = kinds.map(|(kind, domain)| HparamInfo { domain, ..HparamInfo::new("n", kind, "d") }).to_vec();
        let metric = MetricInfo {
            group: "validation".to_owned(),
            tag: "epoch_loss".to_owned(),
            display_name: String::new(),
            description: String::new(),
            of: MetricOf::Validation,
        };
        let experiment = Experiment { description: "d".to_owned(), hparams, metrics: vec![metric] };
        let bytes = experiment.event_file(time(0.0)).unwrap();
        assert_eq!(bytes, experiment.event_file(time(0.0)).unwrap());
        let (tag, Data::Experiment(wire)) = read(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(tag, "_hparams_/experiment");
        assert_eq!(wire.hparam_infos.iter().map(|info| info.r#type).collect::<Vec<_>>(), [3, 1, 2]);
        assert!(matches!(&wire.hparam_infos[0].domain, Some(WireDomain::DomainInterval(i)) if i.max_value == 1.0));
        assert!(matches!(&wire.hparam_infos[1].domain, Some(WireDomain::DomainDiscrete(l)) if l.values.len() == 1));
        assert_eq!(wire.metric_infos[0].dataset_type, 2);
    }
}
