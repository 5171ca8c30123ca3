"""temporary"""
from dataclasses import dataclass
from helpers.aws import Check, RunbookError
from helpers.elasticache import parameter_store as ps
@dataclass(frozen=True)
class Setting:
    where: str; value: str; version: str | int; type: str = "String"
def read_setting(aws, where):
    p = ps.read_parameter(aws, where); return Setting(where, p.value, p.version, p.type)
def is_at(setting, endpoint): return setting.value == endpoint
def compare_and_set(aws, before, expected, value):
    ps.compare_and_set(aws, ps.Parameter(before.where, before.value, before.type, before.version), expected, value)
def changed_meanwhile(where, found, expected): return ps.changed_meanwhile(where, found, expected)
def put_parameter(aws, name, value): ps.put_parameter(aws, name, value)
def setting_checks(aws, where, olds, *, tls, planned=False):
    s = read_setting(aws, where); name = "the application reads its endpoint from the parameter"
    if s.version == 0: return [Check(name, "fail", f"there is no SSM parameter {where}", "Name it.")]
    if s.value not in olds: return [Check(name, "fail", f"{where} holds {s.value!r}, the group's primary endpoint is {olds[0]!r}", "Put it right.")]
    return [Check(name, "pass", f"{where} = {s.value}")]
