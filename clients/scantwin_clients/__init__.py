"""A site: its studies, its policy, and its part in a federated round."""
