"""Consumers of Kafka that come, go and are killed, and a broker that is away: every run is answered once."""

import pytest

from bluesky_xpdml.factory.bench import fault_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed: the extra kafka")


@pytest.mark.slow
def test_a_second_consumer_comes_and_the_first_one_goes(place, require_nothing_lost):
    require_nothing_lost(fault_kafka.kafka_rebalanced(place, 60))


def test_a_consumer_is_killed_between_answer_and_commit(place, require_nothing_lost):
    require_nothing_lost(fault_kafka.kafka_consumer_killed(place, 16, kills=2))


@pytest.mark.slow
def test_a_broker_goes_and_comes_back(place, require_nothing_lost):
    require_nothing_lost(fault_kafka.kafka_broker_away(place, 8))


@pytest.mark.slow
def test_messages_that_are_no_documents_are_counted(place, require_nothing_lost):
    require_nothing_lost(fault_kafka.kafka_foreign(place, 6))
