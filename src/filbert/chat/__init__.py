"""Conversations.

session.py  a conversation that remembers, and forgets whole turns when the context is full
"""
