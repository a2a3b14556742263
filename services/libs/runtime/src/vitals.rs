//! How the process itself does, looked at whenever somebody asks.

use std::fs;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use tokio::runtime::Handle;
use waystation_telemetry::metrics::{Family, Gauge, Registry};

use crate::Context;

/// Bytes of a page of memory: what Linux has on x86-64 and, nearly always, on arm64.
const PAGE: i64 = 4_096;

#[derive(Clone, Debug, Default)]
pub(crate) struct Vitals {
    ready: Gauge,
    tasks: Gauge,
    queue: Gauge,
    workers: Gauge,
    busy: Gauge<f64, AtomicU64>,
    resident: Gauge,
    files: Gauge,
    certificates: Family<CertificateLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    settings: &'static str,
}

impl Vitals {
    pub(crate) fn register(registry: &mut Registry) -> Vitals {
        let vitals = Vitals::default();
        let mut add = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("waystation_ready", "Whether it wants traffic: 1 or 0", &vitals.ready);
        add("waystation_tasks", "Tasks that live", &vitals.tasks);
        add("waystation_tasks_waiting", "Of them, those that wait for a worker in the shared queue", &vitals.queue);
        add("waystation_workers", "Threads that run tasks", &vitals.workers);
        add("waystation_resident_bytes", "Memory that is in use", &vitals.resident);
        add("waystation_open_files", "Files and sockets that are open", &vitals.files);
        let help = "Time that all workers were busy since the start, in seconds";
        registry.register("waystation_busy_seconds", help, vitals.busy.clone());
        let help = "When a certificate ends, in seconds since 1970, by the settings that name it";
        registry.register("waystation_certificate_ends_seconds", help, vitals.certificates.clone());
        vitals
    }

    pub(crate) fn look(&self, context: &Context) {
        self.ready.set(context.readiness.is_ready().into());
        let runtime = Handle::current().metrics();
        self.tasks.set(signed(runtime.num_alive_tasks()));
        self.queue.set(signed(runtime.global_queue_depth()));
        self.workers.set(signed(runtime.num_workers()));
        let busy = (0..runtime.num_workers()).map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64());
        self.busy.set(busy.sum());
        if let Some(pages) = pages() {
            self.resident.set(pages * PAGE);
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.files.set(signed(open.count()));
        }
        for (settings, ends) in context.certificates.ends() {
            let of_settings = self.certificates.get_or_create(&CertificateLabels { settings });
            of_settings.set((ends.as_millis() / 1_000).cast_signed());
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Pages of memory in use; Linux only.
fn pages() -> Option<i64> {
    fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()
}
