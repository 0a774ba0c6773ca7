"""The networks: encoders, decoder, RAE, discriminators."""
