"""Many small networks trained at once, for comparisons with statistics."""
