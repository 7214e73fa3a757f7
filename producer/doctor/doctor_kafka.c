/* doctor_kafka.c: are the topics there, do they keep what they are given, and do the tables know. */
#include "producer/doctor/doctor.h"

#include <string.h>

#include "producer/kafka.h"
#include "producer/tiers.h"
#include "producer/topics.h"

static bool has_name(const struct line_models *models, const char *name)
{
    for (uint32_t i = 0; i < models->count; i++)
        if (models->name[i].len == strlen(name) &&
            memcmp(models->name[i].data, name, models->name[i].len) == 0)
            return true;
    return false;
}

/* The names that a tier answers to, as `mserve topics` registered them. */
static void check_registered(struct doctor *doctor, const struct tiers *tiers,
                             const struct settings_tier *tier, const char *topic,
                             uint32_t partitions)
{
    for (uint32_t i = 0; i < tier->served_names.count; i++) {
        const char *name = tier->served_names.item[i];
        const struct tier *found = NULL;

        for (uint32_t k = 0; k < tiers->count; k++)
            if (strcmp(tiers->tier[k].name, tier->name) == 0 &&
                has_name(&tiers->tier[k].models, name))
                found = &tiers->tier[k];
        if (!found) {
            doctor_say(doctor, DOCTOR_PROBLEM, "tier",
                       "%s is not known to answer to the model %s: jobs for it are refused",
                       tier->name, name);
            doctor_next(doctor, "Run `mserve topics`.");
            return;
        }
        if (strcmp(found->topic, topic) != 0 || found->partitions != partitions) {
            doctor_say(doctor, found->partitions > partitions ? DOCTOR_PROBLEM : DOCTOR_WARNING,
                       "tier", "%s: %u partitions of %s are registered, Kafka has %u of %s",
                       tier->name, found->partitions, found->topic, partitions, topic);
            doctor_next(doctor, found->partitions > partitions
                                    ? "The topic was made anew, and what it held is lost: submit "
                                      "the same files again, then see `missing` below."
                                    : "Run `mserve topics`.");
            return;
        }
    }
    doctor_say(doctor, DOCTOR_OK, "tier", "%s is registered, with %u model name%s", tier->name,
               tier->served_names.count, tier->served_names.count == 1 ? "" : "s");
}

/* False: Kafka does not answer, so it need not be asked again. */
static bool check_topic(struct doctor *doctor, const struct tiers *tiers,
                        const struct settings_tier *tier)
{
    char topic[256];
    struct topic_look look;
    enum err rc;

    kafka_topic_of(&doctor->settings->kafka, tier->name, topic);
    doctor_catch(doctor);
    rc = topics_look(doctor->settings, topic, &look);
    doctor_caught(doctor);
    if (rc == ERR_BROKER || rc == ERR_DENIED) {
        doctor_say(doctor, DOCTOR_PROBLEM, "kafka", "%s", doctor->caught);
        doctor_next(doctor, rc == ERR_DENIED
                                ? "Give the user of kafka.sasl_username the rights to describe "
                                  "and read topics, or correct its password."
                                : "Start Kafka, or correct kafka.brokers. Until then workers run "
                                  "what they have read, and submitting waits.");
        return false;
    }
    doctor->kafka = true;
    if (rc == ERR_NOT_FOUND) {
        doctor_say(doctor, DOCTOR_PROBLEM, "topic", "%s does not exist: tier %s can run nothing",
                   topic, tier->name);
        doctor_next(doctor, "Run `mserve topics`. If it was there before, what it held is lost: "
                            "submit the same files again.");
        return true;
    }
    if (rc != ERR_OK) {
        doctor_say(doctor, DOCTOR_PROBLEM, "topic", "%s", doctor->caught);
        doctor_next(doctor, "Change the topic with the tools of Kafka (kafka-configs), or the "
                            "setting.");
        return true;
    }
    if (look.loss[0] != '\0') {
        doctor_say(doctor, DOCTOR_WARNING, "topic", "%s", look.loss);
        doctor_next(doctor, "Change the topic with the tools of Kafka: kafka-configs, and "
                            "kafka-reassign-partitions for copies.");
    } else {
        doctor_say(doctor, DOCTOR_OK, "topic",
                   "%s has %u partitions and keeps requests long enough", topic,
                   look.shape.partitions);
    }
    if (tiers)
        check_registered(doctor, tiers, tier, topic, look.shape.partitions);
    return true;
}

void doctor_kafka(struct doctor *doctor)
{
    struct tiers tiers = {0};

    if (doctor->db) {
        doctor_catch(doctor);
        (void)tiers_load(doctor->db, &tiers); /* where none is registered, that is said by tier */
        doctor_caught(doctor);
    }
    for (uint32_t i = 0; i < doctor->settings->tier_count; i++)
        if (!check_topic(doctor, doctor->db ? &tiers : NULL, &doctor->settings->tier[i]))
            break;
    if (doctor->kafka)
        doctor_say(doctor, DOCTOR_OK, "kafka", "it answers at %s", doctor->settings->kafka.brokers);
    tiers_release(&tiers);
}
