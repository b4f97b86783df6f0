# Copyright (c) MONAI Consortium
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What training data are worth: one small U-Net, trained on random intensities, on physics, and on generated brains.

``python -m benchmarks.utility --generated SAMPLES --shared DATA`` trains three networks that read T1w, T2w and FLAIR of
a brain without its skull and label fluid, grey and white matter and lesions. They differ in their training data only.
Tests are lesions of a real patient (Lesjak et al. 2017), and all tissues of simulated heads of held-out anatomies.
"""
