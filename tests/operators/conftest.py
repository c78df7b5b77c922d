from tests.operators.world import billing, scenario_file

__all__ = ["billing", "scenario_file"]
