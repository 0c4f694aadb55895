/* Every function that one file of the engine offers to another gets a prefix here, because a
 * product that links libdynofa.a or builds the engine by cgo has its own json_skip and fail.
 * tests/symbols.sh lists the ones that are missing. */
#ifndef DYNOFA_NAMES_H
#define DYNOFA_NAMES_H

#define backend_find     dynofa_internal_backend_find
#define block_next       dynofa_internal_block_next
#define bundle_all_used  dynofa_internal_bundle_all_used
#define bundle_close     dynofa_internal_bundle_close
#define bundle_expect    dynofa_internal_bundle_expect
#define bundle_has       dynofa_internal_bundle_has
#define bundle_largest   dynofa_internal_bundle_largest
#define bundle_read      dynofa_internal_bundle_read
#define bundle_values    dynofa_internal_bundle_values
#define carve            dynofa_internal_carve
#define config_read      dynofa_internal_config_read
#define engine_name      dynofa_internal_engine_name
#define fail             dynofa_internal_fail
#define json_bool        dynofa_internal_json_bool
#define json_end         dynofa_internal_json_end
#define json_field       dynofa_internal_json_field
#define json_integer     dynofa_internal_json_integer
#define json_item        dynofa_internal_json_item
#define json_key         dynofa_internal_json_key
#define json_null        dynofa_internal_json_null
#define json_number      dynofa_internal_json_number
#define json_of          dynofa_internal_json_of
#define json_open        dynofa_internal_json_open
#define json_skip        dynofa_internal_json_skip
#define json_string      dynofa_internal_json_string
#define library_next     dynofa_internal_library_next
#define library_of       dynofa_internal_library_of
#define memory_free      dynofa_internal_memory_free
#define memory_new       dynofa_internal_memory_new
#define memory_zeroed    dynofa_internal_memory_zeroed
#define model_hold       dynofa_internal_model_hold
#define model_release    dynofa_internal_model_release
#define norm_floats      dynofa_internal_norm_floats
#define norms_visit      dynofa_internal_norms_visit
#define plan_build       dynofa_internal_plan_build
#define plan_carve       dynofa_internal_plan_carve
#define plan_subnet      dynofa_internal_plan_subnet
#define pool_begin       dynofa_internal_pool_begin
#define pool_now         dynofa_internal_pool_now
#define pool_run         dynofa_internal_pool_run
#define pool_set_threads dynofa_internal_pool_set_threads
#define pool_start       dynofa_internal_pool_start
#define pool_stop        dynofa_internal_pool_stop
#define session_carve    dynofa_internal_session_carve
#define session_execute  dynofa_internal_session_execute
#define source_close     dynofa_internal_source_close
#define source_open      dynofa_internal_source_open
#define space_cost       dynofa_internal_space_cost
#define space_largest    dynofa_internal_space_largest
#define space_read       dynofa_internal_space_read
#define span_decode      dynofa_internal_span_decode
#define span_is          dynofa_internal_span_is
#define subnet_carve     dynofa_internal_subnet_carve
#define subnet_copy      dynofa_internal_subnet_copy
#define subnet_equal     dynofa_internal_subnet_equal
#define subnet_read      dynofa_internal_subnet_read
#define thread_failure   dynofa_internal_thread_failure

#endif
