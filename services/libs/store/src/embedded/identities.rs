//! Who is who and what they say of themselves, as the traits ask.

use async_trait::async_trait;
use bytes::Bytes;
use waystation_domain::{ApiKeyId, InstanceId, LoginId, OrchestratorId, OrganizationId, Timestamp};

use super::Embedded;
use super::operation::{
    AppendAudit, CreateApiKey, CreateLogin, CreateOrchestrator, CreateOrganization, FirstSigningKey, Register, Revoke,
    RotateLogin, RotateSigningKey, SetOrchestratorStatus, SetSettings, TakeReports, TakeSecret, Unregister,
};
use crate::Unavailable;
use crate::audit::{AuditRecord, AuditStore, Chain};
use crate::credential::*;
use crate::mailbox::{MailboxKey, Now};
use crate::report::{Changed, Registered, Report, ReportStore, ReportView};

#[async_trait]
impl CredentialStore for Embedded {
    async fn create_organization(&self, organization: Organization, now: Now) -> Result<Created, Unavailable> {
        self.run(CreateOrganization(organization), now).await
    }
    async fn set_settings(
        &self,
        organization: &OrganizationId,
        settings: OrganizationSettings,
        now: Now,
    ) -> Result<bool, Unavailable> {
        self.run(SetSettings { organization: organization.clone(), settings }, now).await
    }
    async fn create_orchestrator(&self, orchestrator: Orchestrator, now: Now) -> Result<Created, Unavailable> {
        self.run(CreateOrchestrator(orchestrator), now).await
    }
    async fn create_api_key(&self, key: ApiKey, now: Now) -> Result<Created, Unavailable> {
        self.run(CreateApiKey(key), now).await
    }
    async fn create_login(&self, login: Login, now: Now) -> Result<Created, Unavailable> {
        self.run(CreateLogin(login), now).await
    }
    async fn set_orchestrator_status(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
        status: OrchestratorStatus,
        now: Now,
    ) -> Result<bool, Unavailable> {
        self.run(SetOrchestratorStatus { of: (organization.clone(), id.clone()), status }, now).await
    }
    async fn take_secret(
        &self,
        id: &ApiKeyId,
        mac: [u8; 32],
        until: Timestamp,
        now: Now,
    ) -> Result<NewSecret, Unavailable> {
        self.run(TakeSecret { id: id.clone(), mac, until }, now).await
    }
    async fn signing_keys(&self) -> Result<SigningKeys, Unavailable> {
        self.look(None, |state, _| state.credentials.signing_keys().clone())
    }
    async fn first_signing_key(&self, new: NewSigningKey, now: Now) -> Result<SigningKeys, Unavailable> {
        self.run(FirstSigningKey(new), now).await
    }
    async fn rotate_signing_key(&self, new: NewSigningKey, now: Now) -> Result<bool, Unavailable> {
        self.run(RotateSigningKey(new), now).await
    }
    async fn rotate(&self, login: &LoginId, counter: u32, now: Now) -> Result<Rotation, Unavailable> {
        self.run(RotateLogin { login: login.clone(), counter }, now).await
    }
    async fn revoke(&self, organization: &OrganizationId, revoked: Revoked, now: Now) -> Result<(), Unavailable> {
        self.run(Revoke { organization: organization.clone(), revoked }, now).await
    }
    async fn organization(&self, id: &OrganizationId) -> Result<Option<Organization>, Unavailable> {
        self.look(None, |state, _| state.credentials.organization(id).cloned())
    }
    async fn settings(&self, organization: &OrganizationId) -> Result<OrganizationSettings, Unavailable> {
        self.look(None, |state, _| state.credentials.settings(organization))
    }
    async fn subject(&self, organization: &OrganizationId, id: &OrchestratorId) -> Result<Subject, Unavailable> {
        self.look(None, |state, _| state.credentials.subject(organization, id))
    }
    async fn orchestrators(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<(Orchestrator, OrchestratorState)>, Unavailable> {
        self.look(None, |state, _| state.credentials.orchestrators(organization, after, most))
    }
    async fn api_keys(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<ApiKey>, Unavailable> {
        self.look(None, |state, _| state.credentials.api_keys(organization, after, most))
    }
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, Unavailable> {
        self.look(None, |state, _| state.credentials.api_key(id).cloned())
    }
    async fn login(&self, id: &LoginId) -> Result<Option<Login>, Unavailable> {
        self.look(None, |state, _| state.credentials.login(id).cloned())
    }
    async fn revocations(&self, after: u64) -> Result<Vec<(u64, Revocation)>, Unavailable> {
        self.look(None, |state, _| state.credentials.revocations(after))
    }
}

#[async_trait]
impl ReportStore for Embedded {
    async fn report(&self, reports: Vec<Report>, now: Now) -> Result<Vec<Changed>, Unavailable> {
        self.run(TakeReports(reports), now).await
    }
    async fn register(
        &self,
        mailbox: &MailboxKey,
        instance: InstanceId,
        info: Bytes,
        now: Now,
    ) -> Result<Registered, Unavailable> {
        self.run(Register { mailbox: mailbox.clone(), instance, info }, now).await
    }
    async fn unregister(&self, mailbox: &MailboxKey, instance: &InstanceId, now: Now) -> Result<bool, Unavailable> {
        self.run(Unregister { mailbox: mailbox.clone(), instance: instance.clone() }, now).await
    }
    async fn reported(&self, mailbox: &MailboxKey, now: Now) -> Result<ReportView, Unavailable> {
        self.look(now, |state, now| state.reports.view(mailbox, now))
    }
}

#[async_trait]
impl AuditStore for Embedded {
    async fn append_audit(
        &self,
        chain: &Chain,
        after: u64,
        records: Vec<AuditRecord>,
        now: Now,
    ) -> Result<bool, Unavailable> {
        self.run(AppendAudit { chain: chain.clone(), after, records }, now).await
    }
    async fn audit_head(&self, chain: &Chain) -> Result<Option<AuditRecord>, Unavailable> {
        self.look(None, |state, _| state.audit.head(chain))
    }
    async fn audit(&self, chain: &Chain, after: u64, most: usize) -> Result<Vec<AuditRecord>, Unavailable> {
        self.look(None, |state, _| state.audit.after(chain, after, most))
    }
}
