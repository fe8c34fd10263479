//! What every store must do, run over all of them: each case is a function that gets a fresh store.

mod apps;
mod batches;
#[path = "../../../tests/support/postgres.rs"]
pub(in crate::lifecycle) mod cluster;
mod consumers;
mod dead_letters;
mod harness;
mod keys;
mod locks;
mod occupancy;
mod occupancy_model;
mod outcomes;
mod postgres;
mod sqlite;

use harness::Case;

/// Makes one test per store of each case.
macro_rules! over_all_stores {
    ($($module:ident::$case:ident,)+) => {
        mod in_memory {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::Case::in_memory().await).await })+
        }
        mod in_sqlite {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::Case::in_sqlite().await).await })+
        }
        mod in_postgres {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::Case::in_postgres().await).await })+
        }
    };
}

over_all_stores! {
    locks::a_release_that_overtakes_its_commit_leaves_nothing_to_take,
    locks::a_late_release_of_a_displaced_holder_frees_nobody,
    locks::grace_resumes_with_the_same_fence_and_expires_once,
    locks::the_last_of_several_tabs_unlocks,
    locks::shared_and_exclusive_exclude_each_other,
    locks::a_clock_that_was_set_back_makes_no_grace_longer,
    locks::a_replay_changes_nothing,
    locks::conflict_policies,
    locks::a_force_release_is_by_fence_and_cannot_be_undone_by_a_replay,
    locks::a_fenced_node_writes_nothing,
    locks::locks_are_listed_with_their_holders,
    locks::locks_are_counted_by_state,
    outcomes::one_refused_hold_undoes_the_op_and_not_the_batch,
    outcomes::events_and_holds_stand_in_the_log_in_order,
    outcomes::events_of_a_replayed_op_are_not_appended_twice,
    outcomes::a_close_writes_its_events_before_its_unlocks,
    outcomes::what_cannot_be_stored_is_refused_alone,
    outcomes::a_pair_of_names_is_what_its_events_are_called,
    outcomes::digests_follow_the_holds,
    outcomes::positions_are_dense_under_concurrent_writers,
    outcomes::sweeping_a_stopped_node_is_bounded,
    outcomes::a_cursor_walks_the_whole_log_once,
    outcomes::a_batch_answers_as_its_ops_would_one_by_one,
    apps::an_application_is_kept_as_it_was_given,
    apps::a_write_is_done_only_on_what_its_writer_has_seen,
    apps::every_change_of_applications_moves_the_version,
    batches::a_batch_does_what_its_ops_would_one_by_one,
    consumers::two_workers_cannot_both_move_on,
    consumers::a_lease_that_a_clock_step_made_endless_is_ignored,
    consumers::poison_is_parked_with_what_follows_it,
    consumers::who_is_at_work_keeps_its_claims_when_it_looks_for_more,
    consumers::a_consumer_of_one_shard_reads_that_one_and_no_other,
    consumers::what_is_parked_is_tried_again_key_by_key_in_order,
    consumers::an_operator_can_skip_rewind_and_drop,
    consumers::retention_stops_at_the_slowest_consumer_and_at_parked_entries,
    dead_letters::what_is_late_is_tried_alone_while_others_pass,
    dead_letters::a_late_entry_leaves_its_followers_in_their_order,
    dead_letters::dead_letters_block_nobody_and_can_be_replayed_and_dropped,
    dead_letters::dead_letters_are_listed_page_by_page,
    dead_letters::dead_letters_outlive_the_log_and_are_forgotten_themselves,
    dead_letters::only_what_nobody_owns_for_long_is_an_orphan,
    keys::a_key_is_claimed_once_and_its_answer_is_given_again,
    keys::a_key_belongs_to_its_request_and_to_its_application,
    keys::a_key_that_is_given_back_is_free,
    keys::an_attempt_whose_time_is_over_is_taken_over,
    keys::an_attempt_of_a_dead_node_is_taken_over_at_once,
    keys::keys_whose_time_is_over_are_free_and_deleted_bit_by_bit,
    keys::a_window_shorter_than_an_attempt_does_not_cut_it_off,
    keys::of_many_at_once_one_claims,
    occupancy::the_first_node_occupies_and_the_last_vacates,
    occupancy::who_comes_back_within_the_delay_was_never_gone,
    occupancy::without_a_delay_every_change_is_told_at_once,
    occupancy::a_channel_is_told_before_its_members_and_after_them,
    occupancy::a_dead_node_vacates_once_whatever_the_limit_of_a_sweep,
    occupancy::a_restart_is_told_only_if_it_outlasts_the_delay,
    occupancy::a_batch_is_recorded_once,
    occupancy::a_fenced_node_records_nothing,
    occupancy::events_stand_where_they_happened,
    occupancy::what_cannot_be_recorded_is_refused_and_named,
    occupancy::a_clock_that_was_set_back_makes_no_delay_longer,
    occupancy::a_channel_waits_for_members_with_a_longer_delay,
    occupancy::a_thousand_members_join_and_leave,
    occupancy_model::the_log_of_any_sightings_is_that_of_a_simple_model,
}
