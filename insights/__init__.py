"""What people look at: profiles, funnels, demand, campaigns, the dashboard.

Reads what the other folders wrote; nothing imports it and it writes nothing that a stage reads.
"""
