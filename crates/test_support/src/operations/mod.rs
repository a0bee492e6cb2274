//! What an operator can expect of every daemon of the family.
//!
//! Each function is one test, for one [`Program`](crate::Program);
//! [`operations!`](macro@crate::operations) makes them tests of a daemon's crate.

pub mod access_lists;
pub mod addresses;
pub mod checking;
pub mod configuration;
#[cfg(target_os = "linux")]
pub mod faults;
pub mod figures;
pub mod forgetting;
#[cfg(target_os = "linux")]
pub mod hanging;
#[cfg(target_os = "linux")]
pub mod hosts;
#[cfg(target_os = "linux")]
pub mod idling;
#[cfg(target_os = "linux")]
pub mod kept_sockets;
pub mod keys;
pub mod limits;
#[cfg(target_os = "linux")]
pub mod monitoring;
pub mod operator_endpoint;
pub mod privileges;
pub mod process;
pub mod reloads;
pub mod restarts;
pub mod restrictions;
#[cfg(target_os = "linux")]
pub mod sandbox;
pub mod signals;
pub mod swarm_files;
pub mod torrents;
pub mod turned_away;
pub mod upgrades;

use aquatic_types::{InfoHash, IpFamily};

use crate::torrent;

/// Settings by which the torrents in the file `list` are not served.
const DENY_LIST: &str = "access_list.mode = 'deny'\naccess_list.path = 'list'";

/// A torrent that is announced over one IP family only, so that it does not matter whether the
/// daemon has swarms of both.
fn torrent_of(family: IpFamily, number: u32) -> InfoHash {
    match family {
        IpFamily::V4 => torrent(number),
        IpFamily::V6 => torrent(1_000_000 + number),
    }
}

/// Makes a `#[test]` of each test that daemons over TCP have in common, for the
/// [`Program`](crate::Program) at this path.
#[macro_export]
macro_rules! stream_operations {
    ($program:path) => {
        $crate::operations! {
            $program =>
            turned_away {
                a_limit_on_files_is_told
                files_for_the_metrics_are_not_for_connections
                a_lack_of_files_is_told
                limits_on_connections_are_told
                clients_whom_no_proxy_names_are_told
                a_limit_on_requests_is_told
                memory_of_connections_is_bounded_by_default
                #[cfg(target_os = "linux")]
                nobody_is_refused_during_restarts
            }
        }
    };
}

/// Makes a `#[test]` of each test that trackers have in common whose peers are addresses, for the
/// [`Program`](crate::Program) at this path.
#[macro_export]
macro_rules! address_operations {
    ($program:path) => {
        $crate::operations! {
            $program =>
            restarts {
                swarms_outlive_a_restart
                under_load_the_last_snapshot_is_whole
                after_a_kill_what_was_written_is_there
                #[cfg(target_os = "linux")]
                the_calendar_makes_no_difference
                a_file_that_cannot_be_used_is_set_aside
                nobody_else_can_read_the_file
            }
            swarm_files {
                what_is_no_regular_file_stays_as_it_is
                a_file_that_cannot_be_opened_stays_as_it_is
                a_file_that_cannot_be_set_aside_stays_as_it_is
                what_is_moved_away_is_in_nobodys_way
                #[cfg(target_os = "linux")]
                a_folder_that_cannot_be_written_to_costs_the_snapshots_only
                two_trackers_of_one_file_are_told
            }
        }
    };
}

/// Makes a `#[test]` of each common test, for the [`Program`](crate::Program) at this path.
#[macro_export]
macro_rules! operations {
    ($program:path) => {
        $crate::operations! {
            $program =>
            access_lists {
                only_allowed_torrents_are_served
                denied_torrents_are_not_served
                a_list_that_is_not_used_is_not_read
                a_reloaded_list_counts_at_once_and_forbidden_torrents_are_forgotten
                a_list_that_cannot_be_reloaded_stays_as_it_was
                #[cfg(target_os = "linux")]
                a_replaced_list_is_freed_at_once
                at_start_a_bad_list_is_named_with_its_line
            }
            addresses {
                several_addresses_share_their_swarms
                all_of_ipv6_is_both_families_unless_told_otherwise
                an_address_in_use_is_named
                a_restart_takes_the_address_over
                a_foreign_address_is_named
                #[cfg(target_os = "linux")]
                any_free_port_is_the_same_for_all_workers_and_told
            }
            checking {
                without_a_file_the_defaults_are_checked
                what_the_file_names_is_opened
                a_pipe_is_not_opened
                all_problems_are_reported
                what_is_hardly_meant_is_told_at_a_check_and_at_the_start
                lists_that_let_nobody_in_are_told_of
                files_with_two_purposes_are_refused
                mistakes_are_answered_with_what_to_write
                keys_of_other_programs_are_listed
            }
            configuration {
                the_printed_default_has_every_key_with_a_comment_and_loads
                every_key_says_what_a_reload_does
                mistakes_are_named
                a_missing_file_is_named
                old_spellings_load_with_a_warning_that_names_the_new_ones
            }
            #[cfg(target_os = "linux")]
            faults {
                #[cfg(target_arch = "x86_64")]
                a_worker_that_cannot_go_on_ends_it_with_its_name
                after_a_kill_it_serves_again_at_once
                steps_of_the_clock_change_nothing
                an_interface_may_go_down_and_up
                a_log_on_a_full_disk_delays_nothing
                without_files_it_keeps_its_list
            }
            forgetting {
                silent_peers_are_forgotten_and_the_others_stay
            }
            torrents {
                the_largest_torrents_are_listed
                a_torrent_is_shown_while_others_are_served
                what_is_wrong_with_a_question_about_torrents_is_told
                peers_are_named_to_the_operator
                all_torrents_are_listed_in_a_file
            }
            #[cfg(target_os = "linux")]
            hanging {
                a_thread_that_hangs_ends_it_with_its_name
                #[cfg(target_arch = "x86_64")]
                a_thread_that_vanishes_ends_it_with_its_name
                a_process_that_stood_still_goes_on
                systemd_hears_of_life_only_while_all_threads_live
            }
            #[cfg(target_os = "linux")]
            hosts {
                default_addresses_need_no_ipv6
                named_addresses_without_ipv6_are_refused_with_what_to_write
                a_hardened_host_is_enough
            }
            #[cfg(target_os = "linux")]
            idling {
                an_idle_tracker_rests
            }
            #[cfg(target_os = "linux")]
            kept_sockets {
                who_comes_during_a_restart_is_served
                who_comes_after_a_kill_is_served
                sockets_of_a_unit_are_served
                what_the_configuration_does_not_name_any_more_is_closed
                sockets_that_are_of_no_use_are_closed_and_told
                a_store_that_is_too_small_is_told
                sockets_for_another_process_are_left_alone
            }
            restrictions {
                software_is_denied_by_the_beginning_of_the_peer_id
                clients_of_denied_networks_are_not_served
                at_start_a_bad_list_of_networks_is_named_with_its_line
            }
            limits {
                torrents_are_limited
                peers_are_limited
                memory_is_limited
                memory_is_bounded_by_default
                peers_of_an_address_are_limited
                who_is_turned_away_is_told_in_the_log
            }
            #[cfg(target_os = "linux")]
            monitoring {
                idle_connections_to_the_metrics_take_no_files_from_clients
                the_log_says_where_metrics_are
                the_endpoint_speaks_http
                promtool_has_nothing_to_say
                every_metric_is_documented_and_the_other_way_round
                every_reason_is_documented
                the_process_is_described
                reloads_of_lists_are_told
                reloads_of_the_configuration_are_told
            }
            operator_endpoint {
                the_token_is_asked_for
                the_token_can_be_replaced
                a_token_that_others_can_read_is_refused
                the_list_changes
                a_list_that_loses_its_owner_is_told_about
                a_reload_says_what_came_of_it
                health_is_told_from_the_start_on
                a_stop_does_not_wait_for_the_operator
                it_serves_at_a_unix_socket
                a_long_list_delays_no_answer
            }
            keys {
                keys_change_at_the_endpoint
                keys_are_shown_to_the_operator_alone
            }
            #[cfg(target_os = "linux")]
            figures {
                figures_are_those_of_the_metrics
                every_figure_is_documented
                a_page_shows_the_figures
                figures_are_written_to_a_file
            }
            privileges {
                #[cfg(target_os = "linux")]
                it_serves_as_nobody_inside_another_root
                without_root_it_is_refused
            }
            process {
                a_signal_to_stop_ends_it_with_success
                wrong_arguments_are_named
                a_file_without_a_flag_is_answered_with_the_flag
                help_and_version_are_printed
                the_log_says_as_much_as_configured
                advice_about_the_file_is_shown_at_every_log_level
                an_endpoint_that_cannot_be_had_is_named
                #[cfg(target_os = "linux")]
                workers_are_as_many_as_configured
                #[cfg(target_os = "linux")]
                no_socket_workers_means_one_per_cpu
            }
            reloads {
                limits_change_while_it_serves
                limits_of_shards_begin_and_end
                a_wrong_file_changes_nothing
                what_needs_a_restart_is_named
                the_log_level_changes
                a_file_inside_another_root_is_read
                a_file_outside_of_the_root_is_told
                no_answer_is_lost_at_a_reload
            }
            #[cfg(target_os = "linux")]
            sandbox {
                #[cfg(target_arch = "x86_64")]
                strangers_in_it_can_open_and_do_nothing
                #[cfg(target_arch = "x86_64")]
                to_run_a_program_ends_it
                who_is_not_root_keeps_no_capability
                #[cfg(target_arch = "x86_64")]
                the_sandbox_can_be_left_out
                #[cfg(target_arch = "x86_64")]
                each_part_of_it_works_alone
                a_kernel_without_a_part_of_it_is_told_about
            }
            signals {
                sighup_reloads_like_sigusr1
                signals_without_a_meaning_do_not_end_it
                a_stop_waits_neither_for_a_reload_nor_for_the_start
                a_stop_overtakes_many_reloads_of_a_large_list
                a_reload_that_hangs_does_not_keep_later_ones_from_their_list
                a_log_that_nobody_reads_delays_nothing
                advice_that_nobody_reads_does_not_prevent_the_start
            }
            upgrades {
                its_version_is_later_than_0_9
                the_files_that_0_8_and_0_9_print_load_and_serve
                no_value_that_0_9_ran_with_is_refused
                an_ipv4_mapped_address_is_served_as_ipv4
                the_document_names_every_key_of_0_8_and_0_9
            }
        }
    };
    ($program:path => $(
        $(#[$only_there:meta])?
        $module:ident { $($(#[$only:meta])? $test:ident)+ }
    )+) => {
        $(
            $(#[$only_there])?
            mod $module {
                $(
                    $(#[$only])?
                    #[test]
                    fn $test() {
                        $crate::operations::$module::$test(&$program);
                    }
                )+
            }
        )+
    };
}
