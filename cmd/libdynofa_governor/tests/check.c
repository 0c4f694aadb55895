/* What the header promises, asked from C: hostile arguments are refused with a sentence, threads
 * may each have a governor, and a signal that the program waits for does not end it. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dynofa_governor.h"

static int failures;

static void check(int holds, const char *what, const char *why) {
    if (!holds) {
        printf("check: %s: %s\n", what, why);
        failures++;
    }
}

/* As the README says: before the Go runtime starts, or its threads take SIGTERM. */
__attribute__((constructor(101))) static void block(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static const dynofa_governor_level three[] = {{70, 4}, {71, 8}, {72, 16}};

static dynofa_governor_config fine(void) {
    dynofa_governor_config c = {0};
    c.struct_size = sizeof c;
    c.levels = three;
    c.level_count = 3;
    c.deadline_ms = 20;
    return c;
}

static void refused(const char *what, const dynofa_governor_config *c, const char *expected) {
    char why[200] = "";
    dynofa_governor g = 77;
    int32_t status = dynofa_governor_new(c, &g, why, sizeof why);
    check(status == DYNOFA_GOVERNOR_E_ARGUMENT && g == 0, what, "was not refused");
    check(strstr(why, expected) != NULL, what, why);
}

static void configs(void) {
    dynofa_governor_level levels[3];
    dynofa_governor_config c = fine();
    char one[1] = {'x'};
    refused("config", NULL, "NULL");
    check(dynofa_governor_new(&c, NULL, NULL, 9) == DYNOFA_GOVERNOR_E_ARGUMENT, "out", "was taken");
    c.struct_size = 7;
    refused("struct_size", &c, "struct_size is 7");
    c = fine(), c.levels = NULL;
    refused("levels", &c, "levels is NULL");
    c = fine(), c.level_count = 0;
    refused("level_count 0", &c, "level_count is 0");
    c.level_count = UINT32_MAX;
    refused("level_count", &c, "level_count is 4294967295");
    c = fine(), c.threads = 9999;
    refused("threads", &c, "threads is 9999");
    c = fine(), c.policy = "fast";
    refused("policy", &c, "policy \"fast\"");
    const double wrong[] = {0, -1, NAN, INFINITY, -INFINITY, 1e300};
    for (int i = 0; i < 6; i++) {
        c = fine(), c.deadline_ms = wrong[i];
        refused("deadline", &c, "deadline_ms is");
        memcpy(levels, three, sizeof levels);
        levels[1].latency_ms = wrong[i];
        c = fine(), c.levels = levels;
        refused("latency", &c, "level 1: latency_ms is");
        if (i > 0) {
            levels[1] = (dynofa_governor_level){wrong[i], 8};
            refused("accuracy", &c, "level 1 has accuracy");
            c = fine(), c.probability = wrong[i];
            refused("probability", &c, "probability");
            c = fine(), c.min_accuracy = wrong[i];
            refused("min_accuracy", &c, "accuracy floor");
        }
    }
    c = fine(), c.level_count = 0;
    dynofa_governor g = 77;
    check(dynofa_governor_new(&c, &g, one, 1) != DYNOFA_GOVERNOR_OK && one[0] == 0, "a sentence",
          "was not cut to its size");
}

/* Programs of older and of newer headers: what only one side knows does not count. */
static void sizes(void) {
    char why[200] = "";
    dynofa_governor g = 0;
    dynofa_governor_config c = fine();
    c.policy = "not known to the caller", c.threads = 9999;
    c.struct_size = offsetof(dynofa_governor_config, policy);
    check(dynofa_governor_new(&c, &g, why, sizeof why) == DYNOFA_GOVERNOR_OK, "an older config",
          why);
    dynofa_governor_free(&g);
    struct {
        dynofa_governor_config config;
        uint64_t later;
    } newer = {fine(), UINT64_MAX};
    newer.config.struct_size = sizeof newer;
    check(dynofa_governor_new(&newer.config, &g, why, sizeof why) == DYNOFA_GOVERNOR_OK,
          "a newer config", why);
    dynofa_governor_free(&g);
}

static void handles(void) {
    char why[200] = "";
    double limit = 5;
    dynofa_governor_claim nobody = {.governor = 12345};
    const dynofa_governor wrong[] = {0, 12345, UINT64_MAX};
    for (int i = 0; i < 3; i++) {
        dynofa_governor g = wrong[i];
        check(dynofa_governor_next(g) == DYNOFA_GOVERNOR_E_HANDLE &&
                  dynofa_governor_next_within(g, 1) == DYNOFA_GOVERNOR_E_HANDLE &&
                  dynofa_governor_observe(g, 1) == DYNOFA_GOVERNOR_E_HANDLE &&
                  dynofa_governor_gave_up(g) == DYNOFA_GOVERNOR_E_HANDLE &&
                  dynofa_governor_constrain(g, 1, 0, 0, NULL, 0) == DYNOFA_GOVERNOR_E_HANDLE,
              "a handle that nobody gave", "was taken");
        dynofa_governor_free(&g);
    }
    dynofa_governor_free(NULL);
    check(dynofa_governor_share(&nobody, 1, 1, &limit, why, sizeof why) ==
                  DYNOFA_GOVERNOR_E_HANDLE &&
              limit == 5 && strstr(why, "claim 0"),
          "a claim of nobody", why);
}

static void loop(void) {
    char why[200] = "";
    dynofa_governor g = 0, ended;
    dynofa_governor_config c = fine();
    dynofa_governor_level upside_down[] = {{72, 16}, {70, 4}, {71, 8}};
    c.levels = upside_down;
    check(dynofa_governor_new(&c, &g, why, sizeof why) == DYNOFA_GOVERNOR_OK, "new", why);
    check(dynofa_governor_observe(g, 5) == DYNOFA_GOVERNOR_E_STATE, "observe", "before next");
    check(dynofa_governor_next(g) == 0, "unsorted levels", "not the most accurate of them");
    const double wrong[] = {0, -1, NAN, INFINITY, 1e300};
    for (int i = 0; i < 5; i++) {
        check(dynofa_governor_observe(g, wrong[i]) == DYNOFA_GOVERNOR_E_ARGUMENT, "a latency",
              "was taken in");
        check(dynofa_governor_constrain(g, wrong[i], 0, 0, why, sizeof why) ==
                  DYNOFA_GOVERNOR_E_ARGUMENT,
              "a deadline", "was taken");
    }
    check(dynofa_governor_observe(g, 16) == DYNOFA_GOVERNOR_OK, "observe", "was refused");
    check(dynofa_governor_observe(g, 16) == DYNOFA_GOVERNOR_E_STATE, "observe", "taken in twice");
    check(dynofa_governor_next_within(g, NAN) == DYNOFA_GOVERNOR_E_ARGUMENT &&
              dynofa_governor_next_within(g, INFINITY) == DYNOFA_GOVERNOR_E_ARGUMENT,
          "time left", "was taken");
    check(dynofa_governor_next_within(g, -INFINITY) == 1 && dynofa_governor_gave_up(g) == 3,
          "a frame that is late", "does not get the fastest level");
    check(dynofa_governor_constrain(g, 6, 0, 0, why, sizeof why) == DYNOFA_GOVERNOR_OK &&
              dynofa_governor_next(g) == 1 && dynofa_governor_gave_up(g) == 0,
          "a shorter deadline", "does not get a faster level");
    ended = g;
    dynofa_governor_free(&g);
    dynofa_governor_free(&g);
    check(g == 0 && dynofa_governor_next(ended) == DYNOFA_GOVERNOR_E_HANDLE, "free", "did not");
}

/* Two models on one device: who goes first leaves the other one what is left. */
static void share(void) {
    char why[200] = "";
    dynofa_governor_config c = fine();
    dynofa_governor_claim claims[2] = {{0, 30, 0}, {0, 30, 1}};
    double limits[2] = {-1, -1};
    for (int i = 0; i < 2; i++)
        if (dynofa_governor_new(&c, &claims[i].governor, why, sizeof why) != DYNOFA_GOVERNOR_OK)
            check(0, "new", why);
    check(dynofa_governor_share(claims, 2, 1, limits, why, sizeof why) == DYNOFA_GOVERNOR_OK,
          "share", why);
    check(dynofa_governor_next_within(claims[1].governor, limits[1]) == 2 &&
              dynofa_governor_next_within(claims[0].governor, limits[0]) == 1,
          "share", "not by priority");
    const double wrong[] = {-1, NAN};
    for (int i = 0; i < 2; i++)
        check(dynofa_governor_share(claims, 2, wrong[i], limits, NULL, 0) ==
                  DYNOFA_GOVERNOR_E_ARGUMENT,
              "a budget", "was taken");
    check(dynofa_governor_share(NULL, 2, 1, limits, NULL, 0) == DYNOFA_GOVERNOR_E_ARGUMENT &&
              dynofa_governor_share(claims, 2, 1, NULL, NULL, 0) == DYNOFA_GOVERNOR_E_ARGUMENT &&
              dynofa_governor_share(claims, UINT32_MAX, 1, limits, NULL, 0) ==
                  DYNOFA_GOVERNOR_E_ARGUMENT,
          "claims", "were taken");
    for (int i = 0; i < 2; i++)
        dynofa_governor_free(&claims[i].governor);
}

static void *frames(void *failed) {
    for (int round = 0; round < 20; round++) { /* made and ended beside those of other threads */
        dynofa_governor g = 0;
        dynofa_governor_config c = fine();
        c.sensors = round % 2;
        if (dynofa_governor_new(&c, &g, NULL, 0) != DYNOFA_GOVERNOR_OK)
            *(int *)failed = 1;
        for (int i = 0; i < 500; i++) {
            int32_t level = dynofa_governor_next(g);
            if (level < 0 || level > 2 ||
                dynofa_governor_observe(g, three[level].latency_ms) != DYNOFA_GOVERNOR_OK)
                *(int *)failed = 1;
        }
        dynofa_governor_free(&g);
    }
    return NULL;
}

static void threads(void) {
    pthread_t list[4];
    int failed[4] = {0};
    for (int i = 0; i < 4; i++)
        pthread_create(&list[i], NULL, frames, &failed[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(list[i], NULL);
        check(!failed[i], "a thread with a governor of its own", "was refused");
    }
}

static void signals(void) {
    sigset_t set;
    int got = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    kill(getpid(), SIGTERM);
    check(sigwait(&set, &got) == 0 && got == SIGTERM, "sigwait", "did not get the signal");
}

int main(void) {
    configs();
    sizes();
    handles();
    loop();
    share();
    threads();
    signals();
    if (failures == 0)
        printf("check: the calls from C are as the header says\n");
    return failures > 0;
}
