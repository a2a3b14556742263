//! Sessions: opened, compared and closed.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use waystation_domain::{IncarnationId, Subscriptions};

use super::reply::{self, ActivationText, NoticeText, odd};
use super::scripts::Script;
use super::{Args, Redis, keys};
use crate::Unavailable;
use crate::mailbox::*;

/// See `open.lua`.
#[derive(Deserialize)]
struct OpenText {
    refused: Option<String>,
    verdict: Option<String>,
    activation: Option<ActivationText>,
    subscriptions: Option<String>,
    #[serde(default)]
    born: u64,
    #[serde(default)]
    displaced: Vec<DisplacedText>,
}

#[derive(Deserialize)]
struct DisplacedText {
    session: String,
    incarnation: String,
    address: String,
}

/// See `compare.lua`.
#[derive(Deserialize)]
struct CompareText {
    results: Vec<ComparedText>,
    #[serde(default)]
    activated: Vec<NoticeText>,
}

#[derive(Deserialize)]
struct ComparedText {
    heads: Option<Vec<i64>>,
    epoch: Option<String>,
    activation: Option<ActivationText>,
}

fn names(incarnations: &[IncarnationId]) -> Vec<&str> {
    incarnations.iter().map(IncarnationId::as_str).collect()
}

/// Subscriptions are a text to scripts.
fn subscriptions_text(subscriptions: &Subscriptions) -> Result<String, Unavailable> {
    serde_json::to_string(subscriptions).map_err(odd)
}

pub(super) fn subscriptions_of(text: Option<&str>) -> Result<Subscriptions, Unavailable> {
    text.map_or(Ok(Subscriptions::default()), |text| serde_json::from_str(text).map_err(odd))
}

/// The request of `open.lua`. What is absent is left out: a null is a value to scripts.
fn open_request(open: &OpenSession) -> Result<Json, Unavailable> {
    let mut session = json!({
        "id": open.session.as_str(), "daemon": open.daemon.as_str(), "login": open.login.as_str(),
        "incarnation": open.incarnation.as_str(), "address": open.address, "reads": open.reads_mail,
        "entries": open.window.entries, "bytes": open.window.bytes,
    });
    if let Some(instance) = &open.instance {
        session["instance"] = json!(instance.as_str());
    }
    let mut request = json!({
        "mailbox": keys::name_of(&open.mailbox), "session": session, "most": open.most,
        "gone": names(&open.liveness.gone), "draining": names(&open.liveness.draining),
    });
    if let Some(born) = open.born {
        request["born"] = json!(born);
    }
    if let Some(subscriptions) = &open.subscriptions {
        request["subscriptions"] = json!(subscriptions_text(subscriptions)?);
    }
    if let Some(resume) = &open.resume {
        let positions: Vec<u64> = resume.positions.iter().map(|(_, position)| *position).collect();
        let epoch = resume.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
        request["resume"] = json!({"epoch": epoch, "positions": positions});
    }
    Ok(request)
}

fn displaced(texts: Vec<DisplacedText>, because: DisplacedBecause) -> Result<Vec<Displaced>, Unavailable> {
    let each = texts.into_iter().map(|text| {
        let (session, incarnation) = (reply::parse(&text.session)?, reply::parse(&text.incarnation)?);
        Ok(Displaced { session, incarnation, address: text.address, because })
    });
    each.collect()
}

fn opened(text: OpenText) -> Result<Result<Opened, OpenRefused>, Unavailable> {
    match text.refused.as_deref() {
        None => {}
        Some("expired") => return Ok(Err(OpenRefused::IncarnationExpired)),
        Some("superseded") => return Ok(Err(OpenRefused::Superseded)),
        Some("full") => return Ok(Err(OpenRefused::TooManySessions)),
        Some("duplicate") => {
            let both = displaced(text.displaced, DisplacedBecause::DuplicateIdentity)?;
            return Ok(Err(OpenRefused::DuplicateIdentity(both)));
        }
        Some(other) => return Err(odd(other)),
    }
    let verdict = match text.verdict.as_deref() {
        Some("fresh") => ResumeVerdict::Fresh,
        Some("resumed") => ResumeVerdict::Resumed,
        Some("restarted") => ResumeVerdict::StoreRestarted,
        Some("lost") => ResumeVerdict::PossiblyLost,
        other => return Err(odd(format!("{other:?}"))),
    };
    Ok(Ok(Opened {
        activation: text.activation.map(ActivationText::read).transpose()?,
        verdict,
        subscriptions: subscriptions_of(text.subscriptions.as_deref())?,
        displaced: displaced(text.displaced, DisplacedBecause::Superseded)?,
        born: text.born,
    }))
}

impl Redis {
    pub(super) async fn open_session(
        &self,
        open: OpenSession,
        now: Now,
    ) -> Result<Result<Opened, OpenRefused>, Unavailable> {
        // A lease only grows: one that was read long ago and has not passed is as good as one read now.
        if let Some(until) = self.known_lease(&open.incarnation) {
            let answer = self.try_open(&open, until, now).await?;
            if answer != Err(OpenRefused::IncarnationExpired) {
                return Ok(answer);
            }
        }
        self.gateway_table(now).await?;
        match self.known_lease(&open.incarnation) {
            Some(until) => self.try_open(&open, until, now).await,
            None => Ok(Err(OpenRefused::IncarnationExpired)),
        }
    }

    /// The script compares the end of the lease with its own clock, in the step that opens the session.
    async fn try_open(
        &self,
        open: &OpenSession,
        lease_until: waystation_domain::Timestamp,
        now: Now,
    ) -> Result<Result<Opened, OpenRefused>, Unavailable> {
        let mut args = Args::default();
        args.push(open_request(open)?.to_string()).number(self.fresh_epochs.next()).number(lease_until.as_millis());
        let partition = self.places.partition_of(&open.mailbox);
        opened(reply::json(self.run_in(partition, Script::Open, args, now).await?)?)
    }

    pub(super) async fn close_session(
        &self,
        close: CloseSession,
        now: Now,
    ) -> Result<Option<ActivationNotice>, Unavailable> {
        let request = json!({
            "mailbox": keys::name_of(&close.mailbox), "session": close.session.as_str(),
            "goodbye": close.goodbye, "drained": close.drained,
            "gone": names(&close.liveness.gone), "draining": names(&close.liveness.draining),
        });
        let mut args = Args::default();
        args.push(request.to_string());
        let partition = self.places.partition_of(&close.mailbox);
        let answer = reply::bytes(self.run_in(partition, Script::Close, args, now).await?)?;
        if answer.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice::<NoticeText>(&answer).map_err(odd)?.read().map(Some)
    }

    pub(super) async fn compare_sessions(&self, compare: Compare, now: Now) -> Result<Compared, Unavailable> {
        let Compare { reports, liveness } = compare;
        let mut partitions: BTreeMap<usize, (Vec<usize>, Vec<Json>)> = BTreeMap::new();
        for (place, report) in reports.iter().enumerate() {
            let (places, texts) = partitions.entry(self.places.partition_of(&report.mailbox)).or_default();
            places.push(place);
            texts.push(report_text(report));
        }
        let (gone, draining) = (names(&liveness.gone), names(&liveness.draining));
        let each = partitions.into_iter().map(|(partition, (places, texts))| {
            let mut args = Args::default();
            args.push(json!({"reports": texts, "gone": gone, "draining": draining}).to_string());
            args.number(self.fresh_epochs.next());
            async move {
                let answer = self.run_in(partition, Script::Compare, args, now).await?;
                Ok::<_, Unavailable>((places, reply::json::<CompareText>(answer)?))
            }
        });
        let mut compared = Compared { results: vec![None; reports.len()], activated: Vec::new() };
        for (places, text) in try_join_all(each).await? {
            for (place, result) in places.into_iter().zip(text.results) {
                compared.results[place] = compared_of(result)?;
            }
            for notice in text.activated {
                compared.activated.push(notice.read()?);
            }
        }
        Ok(compared)
    }

    pub(super) async fn replace_subscriptions(
        &self,
        subscribe: Subscribe,
        now: Now,
    ) -> Result<Result<(), Refused>, Unavailable> {
        let mut args = Args::default();
        args.text(subscribe.session.as_str()).push(subscriptions_text(&subscribe.subscriptions)?);
        let known = reply::number(self.run_on(&subscribe.mailbox, Script::Subscribe, args, now).await?)?;
        Ok(if known == 1 { Ok(()) } else { Err(Refused::SessionUnknown) })
    }
}

fn report_text(report: &SessionReport) -> Json {
    let mut text = json!({
        "mailbox": keys::name_of(&report.mailbox), "session": report.session.as_str(),
        "idle": u64::try_from(report.idle.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(status) = report.status {
        text["status"] = json!(status.name());
    }
    if let Some(metrics) = &report.metrics {
        text["metrics"] = json!(String::from_utf8_lossy(metrics));
    }
    text
}

fn compared_of(text: ComparedText) -> Result<Option<ComparedSession>, Unavailable> {
    let (Some(heads), Some(epoch)) = (text.heads, text.epoch) else { return Ok(None) };
    Ok(Some(ComparedSession {
        heads: reply::heads(&heads)?,
        epoch: reply::parse(&epoch)?,
        activation: text.activation.map(ActivationText::read).transpose()?,
    }))
}
