"""The formats that server and client share."""
