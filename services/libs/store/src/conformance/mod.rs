//! What every backend must do, case by case. A backend's tests run all of it with
//! [`conformance_suite!`](crate::conformance_suite).
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

pub mod append;
pub mod credentials;
pub mod federation;
pub mod feeds;
pub mod quotas;
pub mod read;
pub mod reports;
pub mod sessions;
pub mod settle;
mod world;

pub use world::{World, ack, nack};

/// What a case runs on: an empty store, and whatever must live as long as it.
pub trait Opened {
    fn store(&self) -> crate::Store;
}

impl Opened for crate::Store {
    fn store(&self) -> crate::Store {
        self.clone()
    }
}

impl<T> Opened for (crate::Store, T) {
    fn store(&self) -> crate::Store {
        self.0.clone()
    }
}

/// Makes a test of each case. The argument is an expression that opens an empty store, alone or with what must live as
/// long as it.
#[macro_export]
macro_rules! conformance_suite {
    ($open:expr) => {
        $crate::conformance_suite! { @ $open,
            append: [
                sequences_are_dense_in_each_lane,
                composed_ids_name_their_position,
                a_repeated_id_is_one_entry,
                an_id_with_other_content_is_refused,
                a_settled_id_is_remembered_for_two_minutes_at_least,
                a_full_mailbox_refuses_and_keeps_what_it_has,
                bytes_are_capped_too,
                the_oldest_of_the_lowest_lane_makes_room_if_so_configured,
                what_is_in_flight_never_makes_room,
                if_offline_fail_keeps_nothing,
                a_push_is_answered_only_while_the_mark_stands_at_the_head,
            ],
            read: [
                an_activation_reads_everything_from_the_beginning,
                lanes_share_a_read_by_weight,
                the_window_limits_a_read,
                one_entry_fits_an_empty_window_whatever_its_size,
                a_repeated_read_answers_the_same,
                expired_entries_are_told_as_one_gap,
                acknowledged_gaps_are_not_told_again,
                trimmed_exits_are_told_without_their_sequences,
                what_is_in_flight_does_not_expire,
                a_sweep_lets_go_so_much_of_a_mailbox_at_once,
                trace_and_sender_travel_with_the_entry,
                residents_are_listed_without_being_sent,
            ],
            sessions: [
                the_first_session_holds_the_mailbox,
                a_daemon_displaces_itself_and_keeps_the_role,
                a_connection_opened_again_does_not_displace_a_newer_one,
                there_are_at_most_five_sessions,
                sessions_of_a_dead_gateway_do_not_count,
                the_newest_of_the_rest_follows_a_holder_that_ends,
                an_older_fence_reads_and_nacks_nothing,
                a_lease_that_ended_cannot_be_revived,
                a_sweep_hands_the_mailboxes_of_a_dead_gateway_on,
                a_drained_role_waits_for_its_daemon,
                two_instances_that_keep_displacing_each_other_both_end,
                a_silent_holder_yields_to_one_that_lives,
                a_paused_holder_yields_at_once,
                resume_points_are_judged_never_clamped,
                presence_tells_online_reconnecting_and_offline,
                changes_of_presence_are_news_until_they_were_told,
                subscriptions_belong_to_the_daemon,
                whoever_is_not_heard_is_silent,
            ],
            settle: [
                an_ack_removes_and_is_idempotent,
                acks_count_without_the_fence,
                acks_of_what_was_never_sent_are_ignored,
                acks_of_another_epoch_are_ignored,
                a_nacked_entry_is_found_when_due,
                a_charge_of_another_attempt_is_ignored,
                the_fifth_attempt_is_the_last,
                a_rejected_message_is_dead_at_once,
                another_daemon_charges_only_the_oldest_of_each_lane,
                a_drain_charges_nothing,
                a_purge_takes_everything_and_is_told,
                messages_can_be_followed_by_id,
                a_settlement_confirms_what_is_acknowledged,
                a_settlement_tells_how_long_delivery_took,
                dead_letters_are_listed_and_forgotten,
                dead_letters_are_news_until_they_were_told,
                organizations_are_counted_apart,
                a_mailbox_that_fills_is_counted_before_it_is_full,
            ],
            feeds: [
                events_are_read_as_they_were_published,
                a_repeated_event_id_is_one_event,
                the_oldest_events_make_room,
                old_events_go_with_a_sweep,
                a_read_is_limited,
                a_publication_names_the_gateways_that_are_interested,
                feeds_of_organizations_are_apart,
            ],
            federation: [
                slots_are_given_and_taken_with_the_delegation,
                a_delegation_is_what_the_first_made_of_it,
                a_registry_tells_what_has_changed,
                delegations_are_due_listed_and_forgotten,
                what_is_said_and_told_of_an_orchestrator_is_kept, a_context_is_kept_with_its_delegation,
            ],
            quotas: [
                a_rate_is_shared_by_all_who_take_from_it,
            ],
            reports: [
                what_a_daemon_says_is_kept_until_it_says_otherwise,
                a_report_tells_what_it_has_changed,
                the_newest_metrics_of_a_day_are_kept,
                another_daemon_registers_when_the_first_is_silent,
            ],
            credentials: [
                records_are_made_once,
                settings_replace_those_before,
                a_refresh_token_is_used_once,
                a_reused_refresh_token_ends_the_login,
                a_revoked_key_ends_its_logins,
                revocations_are_read_from_a_cursor,
                a_stable_login_keeps_its_refresh_token,
                the_status_of_an_orchestrator_is_set_apart,
                records_are_listed_in_pages,
                a_key_has_two_secrets_at_most,
                signing_keys_follow_each_other,
                a_signing_key_that_is_known_to_others_ends_at_once,
                an_audit_chain_is_continued_only_from_its_end,
            ],
        }
    };
    (@ $open:expr, $($area:ident: [$($case:ident,)*],)*) => {
        $(mod $area {
            $(#[tokio::test]
            async fn $case() {
                let opened = $open;
                let store = $crate::conformance::Opened::store(&opened);
                $crate::conformance::$area::$case($crate::conformance::World::new(store)).await;
            })*
        })*
    };
}
