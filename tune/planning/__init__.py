"""What a sweep will take: stage timings, forecast, price, the plan's picture."""
