//! Endpoints that take, refuse, hang and come back, on real stores.

mod added;
mod aside;
mod batches;
mod harness;
mod outages;

/// Makes one test per store of each case.
macro_rules! over_stores {
    ($($module:ident::$case:ident,)+) => {
        mod webhooks_in_memory {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::harness::in_memory().await).await })+
        }
        mod webhooks_in_postgres {
            $(#[tokio::test] async fn $case() { super::$module::$case(super::harness::in_postgres().await).await })+
        }
    };
}

over_stores! {
    added::an_endpoint_that_comes_later_gets_what_it_is_owed_and_goes_again,
    added::an_endpoint_is_replaced_by_another_of_its_name,
    outages::events_come_in_the_order_of_their_channel_and_channels_beside_each_other,
    outages::a_new_endpoint_begins_at_the_end_and_gets_only_what_it_wants,
    outages::an_endpoint_that_takes_nothing_loses_nothing_and_nothing_is_counted,
    outages::an_outage_longer_than_channels_wait_changes_no_order_and_puts_nothing_aside,
    outages::what_was_under_way_when_an_endpoint_fell_over_keeps_its_order,
    outages::a_request_that_hangs_delays_no_other_channel,
    outages::what_is_too_old_after_an_outage_is_a_dead_letter,
    outages::a_stop_and_a_kill_leave_owed_what_was_not_taken,
    outages::two_nodes_deliver_each_event_once_and_one_takes_over,
    outages::the_place_of_an_endpoint_that_nobody_has_any_more_is_dropped_after_a_while,
    outages::a_stop_can_wait_until_all_is_delivered_but_not_for_ever,
    aside::an_event_that_fails_alone_holds_up_its_channel_and_nobody_else,
    aside::after_a_while_its_channel_passes_it_and_it_is_still_tried,
    aside::an_event_that_is_never_taken_is_a_dead_letter_that_an_operator_can_replay,
    aside::only_one_channel_is_no_reason_to_wait_for_ever,
    aside::what_waits_behind_keeps_its_order_while_nobody_is_there,
    aside::what_a_dead_process_put_aside_is_tried_again_in_order,
    batches::a_request_has_what_came_within_the_window_and_at_most_so_much,
    batches::poison_in_a_batch_is_found_and_the_others_pass,
    batches::a_batch_is_sent_again_as_it_was_when_the_endpoint_is_back,
}
