"""Other people's MQTT clients against a real broker process."""
