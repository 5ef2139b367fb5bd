/* Made by front/make_words.py from oci_gpu_hook/request/prefilter.py: change the words there. */
static const char *const WORDS[] = {
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_VERSION",
    "nvidia-container-devices",
    "AMD_VISIBLE_DEVICES",
    "OCI_GPU_",
    "io.oci-gpu-hook.",
    "cdi.k8s.io",
    "nvidiactl",
    "nderD",
    "nvmap",
    "dxg",
    "ccel",
};
