"""The load harness: measurements that people use to size machines, and we to hold budgets."""
