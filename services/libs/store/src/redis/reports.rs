//! What daemons say of themselves. It is kept beside the mailbox, in its partition.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use waystation_domain::{InstanceId, Timestamp};

use super::keys::name_of;
use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::mailbox::{MailboxKey, Now};
use crate::report::{Changed, Registered, Registration, Report, ReportStore, ReportView, is_recent};

/// A report as the script reads it.
fn text_of(report: &Report) -> serde_json::Value {
    let mut text = json!({"mailbox": name_of(&report.mailbox), "heartbeat": report.heartbeat});
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            text[name] = value;
        }
    };
    put("status", report.status.map(|status| json!(status)));
    put("message", report.message.as_ref().map(|text| json!(text)));
    put("presence", report.presence.map(|presence| json!(presence)));
    put("presence_text", report.presence_text.as_ref().map(|text| json!(text)));
    put("metrics", report.metrics.as_ref().map(|metrics| json!(String::from_utf8_lossy(metrics))));
    text
}

/// A word that stands for a value; empty: there is none.
fn word<T: DeserializeOwned>(text: &str) -> Result<Option<T>, Unavailable> {
    if text.is_empty() { Ok(None) } else { serde_json::from_value(json!(text)).map(Some).map_err(odd) }
}

fn time(text: &str) -> Result<Option<Timestamp>, Unavailable> {
    if text.is_empty() { Ok(None) } else { text.parse().map(|at| Some(Timestamp::from_millis(at))).map_err(odd) }
}

fn view_of(answer: Value) -> Result<ReportView, Unavailable> {
    let mut parts = reply::list(answer)?;
    let mut fields = reply::list(reply::next(&mut parts)?)?;
    let mut field = || reply::text(reply::next(&mut fields)?);
    let mut view = ReportView {
        status: word(&field()?)?,
        message: field()?,
        presence: word(&field()?)?,
        presence_text: field()?,
        heartbeat: time(&field()?)?,
        metrics: Vec::new(),
        registration: None,
    };
    let (instance, info, at) = (field()?, field()?, field()?);
    if let Some(at) = time(&at)? {
        view.registration = Some(Registration { instance: reply::parse(&instance)?, info: info.into(), at });
    }
    let metrics = reply::list(reply::next(&mut parts)?)?;
    let now = Timestamp::from_millis(reply::number(reply::next(&mut parts)?)?);
    for one in metrics {
        let text = reply::text(one)?;
        let (at, metrics) = text.split_once(' ').ok_or_else(|| odd(&text))?;
        let at = Timestamp::from_millis(reply::parse(at)?);
        if is_recent(at, now) {
            view.metrics.push((at, Bytes::from(metrics.to_owned())));
        }
    }
    view.metrics.reverse();
    Ok(view)
}

#[async_trait]
impl ReportStore for Redis {
    async fn report(&self, reports: Vec<Report>, now: Now) -> Result<Vec<Changed>, Unavailable> {
        let mut partitions: BTreeMap<usize, (Vec<usize>, Vec<serde_json::Value>)> = BTreeMap::new();
        for (place, report) in reports.iter().enumerate() {
            let (places, texts) = partitions.entry(self.places.partition_of(&report.mailbox)).or_default();
            places.push(place);
            texts.push(text_of(report));
        }
        let each = partitions.into_iter().map(async |(partition, (places, texts))| {
            let mut args = Args::default();
            args.push(encoded(&texts));
            let answer = reply::list(self.run_in(partition, Script::Report, args, now).await?)?;
            Ok::<_, Unavailable>((places, answer.map(reply::number).collect::<Result<Vec<_>, _>>()?))
        });
        let mut changed = vec![Changed::default(); reports.len()];
        for (places, answer) in try_join_all(each).await? {
            for (place, bits) in places.into_iter().zip(answer) {
                changed[place] = Changed { status: bits & 1 != 0, presence: bits & 2 != 0 };
            }
        }
        Ok(changed)
    }

    async fn register(
        &self,
        mailbox: &MailboxKey,
        instance: InstanceId,
        info: Bytes,
        now: Now,
    ) -> Result<Registered, Unavailable> {
        let mut args = Args::default();
        args.text(instance.as_str()).push(info);
        let answer = reply::number(self.run_on(mailbox, Script::Register, args, now).await?)?;
        Ok(if answer == 1 { Registered::Yes } else { Registered::Another })
    }

    async fn unregister(&self, mailbox: &MailboxKey, instance: &InstanceId, now: Now) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(instance.as_str());
        Ok(reply::number(self.run_on(mailbox, Script::Unregister, args, now).await?)? == 1)
    }

    async fn reported(&self, mailbox: &MailboxKey, now: Now) -> Result<ReportView, Unavailable> {
        view_of(self.run_on(mailbox, Script::Reported, Args::default(), now).await?)
    }
}

fn encoded(texts: &impl Serialize) -> String {
    serde_json::to_string(texts).unwrap_or_else(|error| unreachable!("JSON is JSON: {error}"))
}
