"""What a decoder makes of latents that no encoder gave it: will it generate well?"""
