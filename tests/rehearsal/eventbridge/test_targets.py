"""Events that match a rule arrive at queues, functions and log groups, as the target's input says."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

CODE = 'import json\n\ndef handler(event, context):\n    print(json.dumps({"event": event}))\n'


def function(bus: Any, name: str, rule_arn: str) -> str:
    """Return the ARN of a new function that prints its event and that a rule may call."""
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = bus.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.py", CODE)
    code = {"ZipFile": buffer.getvalue()}
    made = bus.functions.create_function(FunctionName=name, Runtime="python3.12", Handler="index.handler", Role=role["Role"]["Arn"], Code=code)
    bus.functions.add_permission(
        FunctionName=name, StatementId="rule", Action="lambda:InvokeFunction", Principal="events.amazonaws.com", SourceArn=rule_arn
    )
    return made["FunctionArn"]


def log_group(bus: Any, name: str, rule_arn: str) -> str:
    """Return the ARN of a new log group with the documented resource policy for a rule."""
    bus.logs.create_log_group(logGroupName=name)
    arn = f"arn:aws:logs:{bus.account.cloud.region}:{bus.account.cloud.account}:log-group:{name}"
    who = {"Service": ["events.amazonaws.com", "delivery.logs.amazonaws.com"]}
    create = {"Effect": "Allow", "Principal": who, "Action": ["logs:CreateLogStream"], "Resource": f"{arn}:*"}
    put = {"Effect": "Allow", "Principal": who, "Action": ["logs:PutLogEvents"], "Resource": f"{arn}:*:*"}
    put["Condition"] = {"ArnEquals": {"aws:SourceArn": rule_arn}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [create, put]})
    bus.logs.put_resource_policy(resourceArn=arn, policyDocument=document)
    return arn


def test_a_queue_gets_the_whole_event_in_the_order_of_aws(bus: Any) -> None:
    queue = bus.queue("whole")
    bus.rule("whole", queue)
    answer = bus.put({"total": 1.5}, Time=1_700_000_000, Resources=["arn:aws:s3:::shop"])
    event = json.loads(bus.messages(queue)[0]["Body"])
    assert list(event) == ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"]
    assert event["id"] == answer["Entries"][0]["EventId"] and event["time"] == "2023-11-14T22:13:20Z"
    assert (event["source"], event["detail-type"], event["detail"]) == ("shop", "Order", {"total": 1.5})
    assert event["resources"] == ["arn:aws:s3:::shop"]
    bus.put(source="Shop")
    assert bus.waiting(queue) == 0


def test_numbers_arrive_as_they_were_written_and_match_as_numbers(bus: Any) -> None:
    queue = bus.queue("numbers")
    bus.rule("numbers", queue, pattern={"detail": {"exact": [300]}})
    detail = '{"exact": 3.0e2, "long": 12345678901234567890123}'
    bus.put(Detail=detail)
    assert bus.messages(queue)[0]["Body"].endswith(f'"detail":{detail}}}')


def test_a_fifo_queue_gets_an_event_where_the_target_names_a_message_group(bus: Any) -> None:
    url = bus.sqs.create_queue(QueueName="ordered.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn = bus.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    bus.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps({"Statement": [statement]})})
    bus.rule("ordered", arn)
    bus.put({"n": 1})
    bus.rule("ordered", arn, SqsParameters={"MessageGroupId": "orders"})
    bus.put({"n": 2})
    assert [json.loads(one["Body"])["detail"] for one in bus.messages(arn)] == [{"n": 2}]


def test_a_custom_bus_has_events_and_rules_of_its_own(bus: Any) -> None:
    arn = bus.events.create_event_bus(Name="orders")["EventBusArn"]
    here, there = bus.queue("here"), bus.queue("there")
    bus.rule("same-name", here)
    bus.rule("same-name", there, bus="orders")
    bus.put({"n": 1}, bus="orders")
    bus.put({"n": 2}, bus=arn)
    assert {json.loads(one["Body"])["detail"]["n"] for one in bus.messages(there, 2)} == {1, 2}
    assert bus.waiting(here) == 0


def test_a_disabled_rule_delivers_nothing_until_it_is_enabled(bus: Any) -> None:
    queue = bus.queue("sleeping")
    bus.rule("sleeping", queue)
    bus.events.disable_rule(Name="sleeping")
    bus.put({"n": 1})
    bus.events.enable_rule(Name="sleeping")
    bus.put({"n": 2})
    assert [json.loads(one["Body"])["detail"] for one in bus.messages(queue)] == [{"n": 2}]


def test_a_function_really_runs_and_what_it_prints_is_in_its_log_group(bus: Any) -> None:
    rule = bus.rule("debug-function")
    bus.events.put_targets(Rule="debug-function", Targets=[{"Id": "1", "Arn": function(bus, "printer", rule)}])
    bus.put({"order": "printed"})
    printed = bus.logged("/aws/lambda/printer", filterPattern='"printed"')
    assert json.loads(printed[0])["event"]["detail"] == {"order": "printed"}
    stream = bus.logs.describe_log_streams(logGroupName="/aws/lambda/printer")["logStreams"][0]["logStreamName"]
    messages = [one["message"] for one in bus.logs.get_log_events(logGroupName="/aws/lambda/printer", logStreamName=stream)["events"]]
    assert printed[0] in messages


def test_a_function_gets_every_one_of_many_events(bus: Any) -> None:
    rule = bus.rule("many-calls", pattern={"source": ["shop.many"]})
    bus.events.put_targets(Rule="many-calls", Targets=[{"Id": "1", "Arn": function(bus, "counter", rule)}])
    events = [{"source": "shop.many", "detail-type": "Order", "detail": {"n": number}} for number in range(200)]
    bus.account.cloud.emit(events)

    def numbers() -> set[int]:
        pages = bus.logs.get_paginator("filter_log_events").paginate(logGroupName="/aws/lambda/counter", filterPattern='"shop.many"')
        return {json.loads(one["message"])["event"]["detail"]["n"] for page in pages for one in page["events"]}

    bus.logged("/aws/lambda/counter")
    bus.until(lambda: numbers() == set(range(200)))


def test_a_log_group_gets_one_log_event_per_event(bus: Any) -> None:
    rule = bus.rule("debug-log")
    bus.events.put_targets(Rule="debug-log", Targets=[{"Id": "1", "Arn": log_group(bus, "/aws/events/debug", rule)}])
    for number in range(3):
        bus.put({"n": number})
    assert [json.loads(one)["detail"]["n"] for one in bus.logged("/aws/events/debug", 3)] == [0, 1, 2]


def test_a_log_group_takes_an_input_transformer_that_makes_timestamp_and_message(bus: Any) -> None:
    rule = bus.rule("debug-form")
    arn = log_group(bus, "/aws/events/form", rule)
    good = {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"timestamp": 1700000000000, "message": "order <n>"}'}
    bad = {"InputPathsMap": {"n": "$.detail.n"}, "InputTemplate": '{"order": <n>}'}
    bus.events.put_targets(Rule="debug-form", Targets=[{"Id": "1", "Arn": arn, "InputTransformer": good}])
    bus.put({"n": 5})
    assert bus.logged("/aws/events/form", startTime=1) == ["order 5"]
    bus.events.put_targets(Rule="debug-form", Targets=[{"Id": "1", "Arn": arn, "InputTransformer": bad}])
    bus.put({"n": 6})
    assert bus.logged("/aws/events/form", startTime=1) == ["order 5"]


def test_input_is_constant_an_input_path_takes_a_part_and_a_transformer_makes_a_text(bus: Any) -> None:
    constant, part, text = bus.queue("constant"), bus.queue("part"), bus.queue("text")
    transformer = {
        "InputPathsMap": {"name": "$.detail.name", "n": "$.detail.n"},
        "InputTemplate": '{"hello": <name>, "n": <n>, "rule": "<aws.events.rule-name>", "gone": "<aws.events.event.ingestion-time>"}',
    }
    bus.rule("inputs")
    targets = [
        {"Id": "1", "Arn": constant, "Input": '{"always": "this"}'},
        {"Id": "2", "Arn": part, "InputPath": "$.detail"},
        {"Id": "3", "Arn": text, "InputTransformer": transformer},
    ]
    bus.events.put_targets(Rule="inputs", Targets=targets)
    bus.put({"name": "Ann", "n": 3})
    assert bus.messages(constant)[0]["Body"] == '{"always": "this"}'
    assert json.loads(bus.messages(part)[0]["Body"]) == {"name": "Ann", "n": 3}
    made = json.loads(bus.messages(text)[0]["Body"])
    assert (made["hello"], made["n"], made["rule"]) == ("Ann", 3, "inputs") and made["gone"].endswith("Z")
