//! Listeners on real stores: in memory, and in PostgreSQL.

mod failures;
pub(in crate::lifecycle) mod harness;
mod reading;
mod transactions;

/// Makes one test per store of each case.
macro_rules! over_stores {
    ($($module:ident::$case:ident,)+) => {
        mod listener_in_memory {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::harness::World::in_memory().await).await })+
        }
        mod listener_in_postgres {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::harness::World::in_postgres().await).await })+
        }
    };
}

over_stores! {
    reading::entries_come_once_and_in_order_and_a_restart_goes_on,
    reading::resources_are_told_at_the_same_time_and_each_in_order,
    reading::what_another_node_reads_is_taken_over_when_it_stops_or_dies,
    reading::an_operator_who_rewinds_is_noticed_by_an_idle_listener,
    reading::only_what_the_filter_lets_through_is_told,
    reading::retention_waits_for_the_listener,
    reading::a_stop_waits_for_the_listener_but_not_for_ever,
    failures::poison_is_given_up_and_other_resources_flow,
    failures::an_end_of_a_lock_is_tried_for_ever_and_other_resources_flow,
    failures::an_outage_parks_nothing,
    failures::a_panic_and_a_hang_are_failures,
    failures::what_was_handled_ahead_of_a_failure_is_not_told_twice,
    failures::too_many_failing_resources_make_the_shard_wait,
    failures::what_a_dead_process_put_aside_is_tried_again,
}
