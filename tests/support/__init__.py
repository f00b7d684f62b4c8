"""What several tests share: certificates, configured registries."""
