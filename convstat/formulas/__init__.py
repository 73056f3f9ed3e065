"""Closed forms: shapes in, exact integers out, with the derivation in words beside each.

Every function takes plain integers and tuples, imports nothing but the standard library,
and says why the number is so.
Counts are multiply-accumulates unless the name says otherwise; taps that fall on padding count.
"""
